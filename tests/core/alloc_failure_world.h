// A small cache with some history, and operations on it that are to be refused memory or blocks.
//
// Every scenario is a world (a cache with sequences, built without failures) and one operation on
// it. What is refused must have changed nothing: neither what can be asked, nor what goes next.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"

namespace radixkv::testing {

inline std::vector<token_id> tokens_from(token_id first, std::size_t n) {
  std::vector<token_id> t(n);
  for (std::size_t i = 0; i < n; ++i) t[i] = first + static_cast<token_id>(i);
  return t;
}

inline constexpr std::array<const char*, 6> online_policies = {"lru",  "fifo",   "lfu",
                                                               "slru", "s3fifo", "reuse_index"};

struct world {
  static constexpr std::int64_t blocks = 24;

  explicit world(const std::string& policy) {
    cache_options o;
    o.blocks = blocks;
    o.block_tokens = 4;
    o.min_prefix_tokens = 1;
    o.logits_rows = 4;
    o.policy = policy;
    o.clock = [] { return 1.0; };
    cache.push_back(kv_cache::create(o).value());
    // A branching prefix, published by requests that have ended.
    for (token_id i = 0; i < 3; ++i) {
      std::vector<token_id> t = tokens_from(0, 10);
      t.resize(10 + i);
      for (token_id k = 0; k < 4; ++k) t.push_back(100 * (i + 1) + k);
      finish(t, "a");
    }
    finish(tokens_from(500, 9), "b");
    // One that is still open, with a partial tail and room, and a fork of it.
    open.push_back(cache[0].open(tokens_from(0, 11), "a", plan).value());
    EXPECT_TRUE(open[0].mark_filled(11).ok());
    plan.clear();
    plan.copies.shrink_to_fit();
    open.reserve(4);
    announced.reserve(4);
    pinned.reserve(4);
  }

  void finish(const std::vector<token_id>& t, const char* space) {
    step_plan scratch;
    sequence s = cache[0].open(t, space, scratch).value();
    EXPECT_TRUE(s.mark_filled(s.tokens()).ok());
    EXPECT_TRUE(s.commit_logits(s.tokens(), 0, scratch).ok());
  }
  // What must not change, as text.
  [[nodiscard]] std::string state() const {
    const cache_statistics s = cache[0].statistics();
    std::string text = cache[0].dump().value();
    for (const std::int64_t v :
         {s.requests, s.requests_hit, s.tokens_looked_up, s.tokens_hit, s.logits_hits,
          s.evicted_blocks, s.copied_blocks, s.duplicate_blocks, s.blocks_free, s.blocks_shared,
          s.blocks_cached, s.cached_tokens, s.namespaces, s.sequences, s.logits_used, s.nodes,
          s.announcements, s.pinned_prefixes, s.sequence_hints}) {
      text += std::to_string(v) + " ";
    }
    text += std::to_string(s.policy.requests) + " " + std::to_string(s.policy.hit_blocks);
    for (const sequence& q : open) {
      text += "\n" + std::to_string(q.id()) + ": ";
      for (const std::int64_t v :
           {q.tokens(), q.filled_tokens(), q.committed_tokens(), q.capacity_tokens()}) {
        text += std::to_string(v) + " ";
      }
      for (const block_id b : q.block_table()) text += std::to_string(b) + ",";
    }
    for (const block_copy& c : plan.copies) text += "\n" + std::to_string(c.destination);
    for (const logits_move& m : plan.logits) text += "\n" + std::to_string(m.slot);
    for (const announcement& a : announced) text += "\nheld " + std::to_string(a.held_tokens());
    for (const pinned_prefix& p : pinned) text += "\nheld " + std::to_string(p.held_tokens());
    std::uint64_t digest = 0;
    const std::vector<std::byte> weights = cache[0].save_policy().value();
    for (const std::byte b : weights)
      digest = digest * 0x100000001b3 + static_cast<std::uint64_t>(b);
    return text + "\nlearnt " + std::to_string(digest);
  }
  // Evicts block by block and tells what is left each time: what goes next is state, too.
  [[nodiscard]] std::string drain() {
    std::string text;
    do {
      std::vector<std::string> left;
      EXPECT_TRUE(cache[0]
                      .for_each_prefix([&](std::string_view space, std::span<const token_id> t) {
                        left.push_back(std::string(space) + " " + std::to_string(t.size()) + " " +
                                       std::to_string(t.back()));
                        return true;
                      })
                      .ok());
      std::ranges::sort(left);
      for (const std::string& one : left) text += one + ", ";
      text += "\n";
    } while (cache[0].evict(1) == 1);
    return text;
  }
  // Lets go of everything; then all blocks are free and the invariants hold.
  void close(const std::string& where) {
    open.clear();
    announced.clear();
    pinned.clear();
    EXPECT_EQ(cache[0].check_invariants(), "") << where;
    EXPECT_EQ(cache[0].statistics().blocks_used, cache[0].statistics().blocks_cached) << where;
    cache[0].clear();
    EXPECT_EQ(cache[0].statistics().blocks_free, blocks) << where;
    EXPECT_EQ(cache[0].statistics().sequence_hints, 0) << where;
    EXPECT_EQ(cache[0].check_invariants(), "") << where;
  }

  std::vector<kv_cache> cache;
  std::vector<sequence> open;
  std::vector<announcement> announced;
  std::vector<pinned_prefix> pinned;
  step_plan plan;
  std::vector<std::byte> learnt;
};

// Returns the operation's error, if it has one.
using operation = std::function<status(world&)>;

struct scenario {
  const char* name;
  operation run;
  // Between failure and retry the state is compared. Not where a part of it may have happened.
  bool all_or_nothing = true;
  std::function<void(world&)> prepare = {};  // nothing fails in it
  std::function<void(world&)> then = {};     // what holds once it has passed; nor here
};

template <typename T>
status status_of(result<T> r) {
  return r ? status() : status(std::move(r).error());
}

inline status keep(world& w, result<sequence> s) {
  if (!s) return std::move(s).error();
  w.open.push_back(std::move(*s));
  return {};
}
inline status keep(world& w, result<announcement> a) {
  if (!a) return std::move(a).error();
  w.announced.push_back(std::move(*a));
  return {};
}
inline status keep(world& w, result<pinned_prefix> p) {
  if (!p) return std::move(p).error();
  w.pinned.push_back(std::move(*p));
  return {};
}

// Prompts are made outside of what fails.
inline const std::vector<token_id> known_prompt = tokens_from(0, 11);
inline const std::vector<token_id> fresh_prompt = tokens_from(900, 13);
inline const std::vector<token_id> large_prompt = tokens_from(2000, 60);
inline const std::vector<token_id> few_tokens = tokens_from(7, 3);

// Lets each allocation of each scenario fail in turn, alone or with all later ones.
void fail_each_allocation(std::span<const scenario> scenarios, const std::string& policy,
                          bool from_then_on);
// The same of what a refused operation says: its error, whatever memory there is for it, changes
// nothing.
void refuse_with_each_allocation_failing(std::span<const scenario> refusals,
                                         const std::string& policy, bool from_then_on);
// The nth allocation of `what` fails, until it passes; `what` returns its error. Returns how often
// it failed.
class alloc_failure;
std::int64_t fail_each(bool from_then_on, const std::function<status(alloc_failure&)>& what);

}  // namespace radixkv::testing
