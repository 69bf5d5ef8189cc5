// Prompts that are made to be slow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "radixkv/types.h"

namespace radixkv::testing {

using tokens = std::vector<token_id>;
using prompts = std::vector<tokens>;

inline constexpr std::uint32_t block_tokens = 16;  // a block's tokens are a line

inline tokens random_tokens(std::mt19937& random, std::size_t n) {
  tokens t(n);
  for (token_id& x : t) x = static_cast<token_id>(random());
  return t;
}

// Every prompt is a block longer than the one before, and parts from the chain at its end.
inline prompts deep_chain(std::size_t n) {
  std::mt19937 random(1);
  prompts all;
  tokens path;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::uint32_t k = 0; k < block_tokens; ++k)
      path.push_back(static_cast<token_id>(random() % 9));
    all.push_back(path);
    all.back().insert(all.back().end(), block_tokens, static_cast<token_id>(100 + i));
  }
  return all;
}

inline prompts one_token_branches(std::size_t n) {
  std::mt19937 random(2);
  prompts all;
  tokens path;
  for (std::size_t i = 0; i < n; ++i) {
    path.push_back(static_cast<token_id>(random() % 9));
    all.push_back(path);
    all.back().push_back(static_cast<token_id>(1000 + i));
  }
  return all;
}

// Prompts whose first blocks agree in all but one token.
inline prompts siblings(std::size_t first, std::size_t n, std::size_t length, std::size_t parting) {
  std::mt19937 random(3);
  prompts all;
  for (std::size_t i = first; i < first + n; ++i) {
    tokens t(length, 7);
    t[parting] = static_cast<token_id>(i * 0x9e3779b1u);
    for (std::size_t k = block_tokens; k < length; ++k) t[k] = static_cast<token_id>(random());
    all.push_back(std::move(t));
  }
  return all;
}

// Prompts whose first blocks part at every token, in so many ways each, and end in one that is
// unique.
inline prompts siblings_parting_everywhere(std::size_t first, std::size_t n, std::size_t length,
                                           std::uint32_t ways = 2) {
  std::mt19937 random(static_cast<std::uint32_t>(first));
  prompts all;
  for (std::size_t i = first; i < first + n; ++i) {
    tokens t(length, 7);
    for (std::size_t k = 1; k + 1 < block_tokens; ++k) t[k] = random() % ways;
    t[block_tokens - 1] = static_cast<token_id>(i);
    for (std::size_t k = block_tokens; k < length; ++k) t[k] = static_cast<token_id>(random());
    all.push_back(std::move(t));
  }
  return all;
}

// Sixteen by sixteen prompts whose first blocks part from the first one of them at one token each:
// every further one from all others, or from all but one.
inline prompts sibling_combs(std::size_t first, std::size_t n, std::size_t length, bool outwards) {
  prompts all;
  for (std::size_t i = first; i < first + n; ++i) {
    std::mt19937 random(static_cast<std::uint32_t>(i / block_tokens));
    tokens t = random_tokens(random, block_tokens);
    t[0] = 7;
    const std::size_t nth = i % block_tokens;
    if (nth > 0) t[outwards ? block_tokens - nth : nth] ^= 1;
    random.seed(static_cast<std::uint32_t>(i));
    while (t.size() < length) t.push_back(static_cast<token_id>(random()));
    all.push_back(std::move(t));
  }
  return all;
}

// A path whose nodes have 1, 1 and `longer` blocks in turn.
inline prompts uneven_runs(std::size_t turns, std::size_t longer) {
  std::mt19937 random(4);
  prompts all;
  tokens path;
  for (std::size_t i = 0; i < turns; ++i) {
    const std::size_t run = i % 3 == 2 ? longer : 1;
    for (std::size_t k = 0; k < run * block_tokens; ++k) {
      path.push_back(static_cast<token_id>(random() % 9));
    }
    all.push_back(path);
    all.back().insert(all.back().end(), block_tokens, static_cast<token_id>(100 + i));
  }
  return all;
}

// Prompts that agree where a policy's hashes of paths look: in the last 16 tokens of every 128.
inline prompts equal_samples(std::size_t n, std::size_t length) {
  std::mt19937 random(5);
  prompts all;
  for (std::size_t i = 0; i < n; ++i) {
    tokens t = random_tokens(random, length);
    for (std::size_t k = 0; k < length; ++k) {
      if (k % 128 >= 112) t[k] = 7;
    }
    all.push_back(std::move(t));
  }
  return all;
}

// Tokens in steps that multiplicative and masking hashes without a key map to few slots.
inline prompts arithmetic(std::size_t n, std::size_t length, std::uint64_t step) {
  prompts all;
  for (std::size_t i = 0; i < n; ++i) {
    tokens t;
    for (std::size_t k = 0; k < length; ++k)
      t.push_back(static_cast<token_id>((i * length + k) * step));
    all.push_back(std::move(t));
  }
  return all;
}

}  // namespace radixkv::testing
