// Small caches with the policy lru, and prompts for them.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"

namespace radixkv::testing {

inline std::vector<token_id> counting(token_id first, std::size_t n) {
  std::vector<token_id> t(n);
  std::iota(t.begin(), t.end(), first);
  return t;
}

inline kv_cache make(std::int64_t blocks, std::uint32_t block_tokens = 4,
                     std::int32_t logits_rows = 0) {
  cache_options o;
  o.blocks = blocks;
  o.block_tokens = block_tokens;
  o.logits_rows = logits_rows;
  o.min_prefix_tokens = 1;
  o.policy = "lru";  // cases below say what goes first
  return kv_cache::create(o).value();
}

inline void publish(kv_cache& cache, std::span<const token_id> tokens,
                    std::string_view space = {}) {
  step_plan plan;
  sequence s = cache.open(tokens, space, plan).value();
  ASSERT_TRUE(s.mark_filled(s.tokens()).ok());
  ASSERT_TRUE(s.commit().ok());
}

inline bool says(const error& e, std::initializer_list<const char*> parts) {
  return std::all_of(parts.begin(), parts.end(),
                     [&](const char* p) { return e.message.find(p) != std::string::npos; });
}

}  // namespace radixkv::testing
