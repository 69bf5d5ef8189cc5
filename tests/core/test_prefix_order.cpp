// Token strings in order: what is found is what a look at each of them finds, and it takes few
// steps however they are nested.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/mix.h"
#include "csrc/core/prefix_order.h"

namespace radixkv::detail {
namespace {

using string = std::vector<std::uint32_t>;

// The order, and the same strings in the order of their insertion.
class strings {
 public:
  void insert(string s) {
    all_.push_back(std::make_unique<one>());
    one& x = *all_.back();
    x.tokens = std::move(s);
    x.item.tokens = x.tokens;
    x.item.value = ++inserted_;
    x.item.priority = mix(inserted_, 0x1234567);
    order_.insert(x.item);
  }
  void erase(std::size_t i) {
    order_.erase(all_[i]->item);
    all_.erase(all_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  [[nodiscard]] std::size_t size() const { return all_.size(); }
  // The value of the longest that begins the path, the last of equal ones; 0 for none.
  [[nodiscard]] std::uint64_t expected(const string& path) const {
    const one* best = nullptr;
    for (const auto& x : all_) {
      const string& s = x->tokens;
      if (s.size() > path.size() || !std::equal(s.begin(), s.end(), path.begin())) continue;
      if (best == nullptr || s.size() >= best->tokens.size()) best = x.get();
    }
    return best == nullptr ? 0 : best->item.value;
  }
  [[nodiscard]] std::uint64_t found(const string& path) const {
    const prefix_order::item* const x = order_.longest_prefix_of(path);
    return x == nullptr ? 0 : x->value;
  }
  // All that begin the path, the longest first, the last one of equal ones each.
  [[nodiscard]] std::vector<std::uint64_t> chain(string path, bool expect) const {
    std::vector<std::uint64_t> values;
    if (expect) {
      for (; !path.empty(); path.pop_back()) {
        const std::uint64_t v = expected(path);
        if (v != 0 && (values.empty() || values.back() != v)) values.push_back(v);
      }
    } else {
      prefix_order::item* x = order_.longest_prefix_of(path);
      for (; x != nullptr; x = prefix_order::shorter_prefix_of(*x)) values.push_back(x->value);
    }
    return values;
  }
  void check_order() const {
    std::vector<const one*> sorted;
    for (const auto& x : all_) sorted.push_back(x.get());
    std::ranges::stable_sort(sorted, {}, [](const one* x) { return x->tokens; });
    std::vector<std::uint64_t> expected_values, values;
    for (const one* x : sorted) expected_values.push_back(x->item.value);
    order_.for_each([&](const prefix_order::item& x) { values.push_back(x.value); });
    EXPECT_EQ(values, expected_values);
  }

 private:
  struct one {
    string tokens;
    prefix_order::item item;
  };
  std::vector<std::unique_ptr<one>> all_;
  prefix_order order_;
  std::uint64_t inserted_ = 0;
};

string random_string(std::mt19937& random, std::uint32_t letters, std::size_t most) {
  string s(1 + random() % most);
  for (auto& t : s) t = random() % letters;
  return s;
}

TEST(prefix_order, finds_what_a_look_at_each_finds) {
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    const std::uint32_t letters = 1 + seed % 3;
    strings all;
    for (int step = 0; step < 400; ++step) {
      if (all.size() > 0 && random() % (step < 200 ? 4 : 2) == 0) {
        all.erase(random() % all.size());
      } else {
        all.insert(random_string(random, letters, 12));
      }
      for (int k = 0; k < 4; ++k) {
        const string path = random_string(random, letters, 16);
        ASSERT_EQ(all.found(path), all.expected(path)) << "seed " << seed << " step " << step;
        ASSERT_EQ(all.chain(path, false), all.chain(path, true)) << "seed " << seed;
      }
    }
    all.check_order();
  }
}

// What goes along with the path for 1, 2, … tokens and comes just before it, between it and the one
// that begins it; nested in one another, or not.
TEST(prefix_order, whatever_comes_between_costs_few_steps) {
  constexpr std::size_t length = 250;
  constexpr std::size_t combs = 16;
  std::mt19937 random(1);
  string path(length);
  for (auto& t : path) t = 1000 + static_cast<std::uint32_t>(random() % 1000);
  for (const bool nested : {false, true}) {
    strings all;
    all.insert({path[0]});
    for (std::size_t k = 0; k < combs; ++k) {
      for (std::size_t n = 2; n <= length; ++n) {
        string tooth(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(n));
        if (nested) {
          tooth[1] = path[1] - 1;
        } else {
          tooth.back() -= 1 + static_cast<std::uint32_t>(k);
        }
        all.insert(std::move(tooth));
      }
    }
    ASSERT_EQ(all.found(path), 1u);
#if defined(RADIXKV_DEBUG_CHECKS)
    const step_counts before = steps_of_thread();
    EXPECT_EQ(all.found(path), 1u);
    // A descent of some 30 items, each with up to 16 lines of tokens, and a climb.
    EXPECT_LE(steps_of_thread().nodes - before.nodes, 700u) << nested;
#endif
  }
}

}  // namespace
}  // namespace radixkv::detail
