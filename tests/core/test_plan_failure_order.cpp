// Who may not publish after plans have failed, whenever a report comes and whatever sequences do
// before they find out: against marks that are set at once in all that hold what a plan names.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"

namespace radixkv::testing {
namespace {

constexpr std::int64_t block_tokens = 4;

class reported_plans {
 public:
  explicit reported_plans(unsigned seed) : random_(seed) {
    cache_options o;
    o.blocks = 48;
    o.block_tokens = block_tokens;
    o.min_prefix_tokens = 1;
    cache_ = kv_cache::create(std::move(o)).value();
  }
  void step() {
    plan_.clear();
    switch (below(open_.size() > 8 ? 9 : 8)) {
      case 0:
      case 1:
        open();
        break;
      case 2:
        fork();
        break;
      case 3:
        grow();
        break;
      case 4:
        cut();
        break;
      case 5:
        commit();
        break;
      case 6:
      case 7:
        report();
        break;
      default:
        close();
        break;
    }
    if (!plan_.copies.empty()) waiting_.push_back(plan_);
    if (waiting_.size() > 12) waiting_.erase(waiting_.begin());  // it ran
  }
  // Everybody finds out.
  void end() {
    while (!open_.empty()) {
      commit();
      close();
    }
    EXPECT_EQ(cache_.check_invariants(), "");
  }
  std::int64_t refused = 0, published = 0;

 private:
  struct holder {
    sequence handle;
    bool failed;
  };
  std::size_t below(std::size_t n) { return random_() % n; }
  holder& any() { return open_[below(open_.size())]; }
  std::vector<token_id> some_tokens(std::size_t n) {
    std::vector<token_id> t(n);
    for (token_id& x : t) x = static_cast<token_id>(below(2));
    return t;
  }
  void open() {
    if (result<sequence> s = cache_.open(some_tokens(1 + below(20)), {}, plan_)) {
      open_.push_back({std::move(*s), false});
    }
  }
  void fork() {
    if (open_.empty()) return;
    holder& parent = any();
    const bool failed = parent.failed;
    result<sequence> child = parent.handle.fork();
    ASSERT_TRUE(child.ok());
    open_.push_back({std::move(*child), failed});
  }
  void grow() {
    if (open_.empty()) return;
    sequence& s = any().handle;
    if (below(2) == 0) {
      (void)s.append(some_tokens(1 + below(9)), plan_);
    } else {
      (void)s.reserve(static_cast<std::int64_t>(1 + below(9)), plan_);
    }
    fill(s);
  }
  void fill(sequence& s) {
    const auto more = static_cast<std::size_t>(s.tokens() - s.filled_tokens());
    ASSERT_TRUE(s.mark_filled(s.filled_tokens() + static_cast<std::int64_t>(below(more + 1))).ok());
  }
  void cut() {
    if (open_.empty()) return;
    sequence& s = any().handle;
    const std::int64_t least = std::max<std::int64_t>(1, s.committed_tokens());
    const auto more = static_cast<std::size_t>(s.tokens() - least);
    ASSERT_TRUE(s.truncate(least + static_cast<std::int64_t>(below(more + 1))).ok());
  }
  void commit() {
    if (open_.empty()) return;
    holder& h = any();
    fill(h.handle);
    const result<commit_result> done = h.handle.commit();
    ASSERT_EQ(done.ok(), !h.failed) << "sequence " << h.handle.id();
    if (!done) {
      ASSERT_EQ(done.error().code, errc::released);
    }
    ++(done ? published : refused);
  }
  void close() {
    if (open_.empty()) return;
    std::swap(any(), open_.back());
    open_.pop_back();
  }
  // A plan that has waited, whose blocks may be anybody's by now.
  void report() {
    if (waiting_.empty()) return;
    const std::size_t i = below(waiting_.size());
    cache_.report_failure(waiting_[i]);
    for (holder& h : open_) {
      const auto path = static_cast<std::size_t>(h.handle.committed_tokens() / block_tokens);
      for (const block_id b : h.handle.block_table().subspan(path)) {
        h.failed = h.failed || std::ranges::any_of(waiting_[i].copies, [&](const block_copy& c) {
                     return c.destination == b;
                   });
      }
    }
    if (below(2) == 0) waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  std::mt19937 random_;
  kv_cache cache_ = kv_cache::create({.blocks = 1}).value();
  step_plan plan_;
  std::vector<step_plan> waiting_;
  std::vector<holder> open_;
};

TEST(plan_failure_order, sequences_find_out_late_what_they_would_at_once) {
  std::int64_t refused = 0, published = 0;
  for (unsigned seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    reported_plans world(seed);
    for (int i = 0; i < 2'000; ++i) {
      world.step();
      if (::testing::Test::HasFailure()) return;
    }
    world.end();
    refused += world.refused;
    published += world.published;
  }
  std::printf("%lld commits, and %lld refused\n", static_cast<long long>(published),
              static_cast<long long>(refused));
  EXPECT_GT(refused, 1'000);
  EXPECT_GT(published, 1'000);
}

}  // namespace
}  // namespace radixkv::testing
