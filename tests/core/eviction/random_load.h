// Random operations on the bare tree, with many requests open at once, shared by the policies'
// tests.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "bench/eviction_study/sim_tree.h"

namespace radixkv::study {

// Paths with small alphabets, so that they branch, repeat and end inside others.
class random_paths {
 public:
  explicit random_paths(std::uint64_t seed, std::uint32_t alphabet, std::uint32_t longest)
      : random_(seed), alphabet_(alphabet), longest_(longest) {
    next_.emplace_back(alphabet, 0);
  }

  path make() {
    auto ids = std::make_unique<std::vector<std::uint32_t>>();
    std::uint32_t at = 0;
    // Repeats an earlier path's beginning half of the time.
    const std::uint32_t blocks = 1 + static_cast<std::uint32_t>(random_() % longest_);
    const std::vector<std::uint32_t>* earlier =
        all_.empty() || random_() % 2 ? nullptr : all_[random_() % all_.size()].get();
    for (std::uint32_t i = 0; i < blocks; ++i) {
      if (earlier && i < earlier->size()) {
        at = (*earlier)[i] + 1;
      } else {
        earlier = nullptr;
        at = child(at, static_cast<std::uint32_t>(random_() % alphabet_));
      }
      ids->push_back(at - 1);
    }
    all_.push_back(std::move(ids));
    return {all_.back()->data(), 1, blocks};
  }

  std::uint64_t number() { return random_(); }

 private:
  // The trie of everything generated: equal ids are equal prefixes.
  std::uint32_t child(std::uint32_t at, std::uint32_t symbol) {
    if (next_[at][symbol] == 0) {
      next_[at][symbol] = static_cast<std::uint32_t>(next_.size());
      next_.emplace_back(alphabet_, 0);
    }
    return next_[at][symbol];
  }

  std::mt19937_64 random_;
  std::uint32_t alphabet_, longest_;
  std::vector<std::vector<std::uint32_t>> next_;
  std::vector<std::unique_ptr<std::vector<std::uint32_t>>> all_;
};

// A hash for each chunk of `chunk` blocks: an id stands for its whole prefix.
inline std::vector<std::uint64_t> hashes_of(const path& p, std::uint32_t chunk) {
  std::vector<std::uint64_t> out;
  for (std::uint32_t i = chunk; chunk != 0 && i <= p.blocks; i += chunk)
    out.push_back((p.at(i - 1) + 1) * 0x9e3779b97f4a7c15u);
  return out;
}

}  // namespace radixkv::study
