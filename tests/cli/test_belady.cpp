// The offline optimum against a simulation of single blocks that looks ahead by searching.
#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/cli/belady.h"

namespace radixkv::cli {
namespace {

using token = std::pair<std::uint64_t, std::uint32_t>;  // id of a segment, position in it
using path = std::vector<token>;                        // identifies a whole block by its prefix

std::vector<path> blocks_of(const trace& t, const trace_request& r, std::uint32_t block_tokens) {
  path tokens;
  for (const segment& s : t.segments_of(r))
    for (std::uint32_t i = 0; i < s.tokens; ++i) tokens.emplace_back(s.id, i);
  std::vector<path> blocks;
  for (std::size_t end = block_tokens; end <= tokens.size(); end += block_tokens)
    blocks.emplace_back(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(end));
  return blocks;
}

std::uint64_t hits_by_search(const trace& t, std::size_t capacity, std::uint32_t block_tokens) {
  std::vector<std::vector<path>> all;
  for (const trace_request& r : t.requests) all.push_back(blocks_of(t, r, block_tokens));
  std::uint64_t hits = 0;
  std::set<path> cached;
  for (std::size_t now = 0; now < all.size(); ++now) {
    const std::set<path> mine(all[now].begin(), all[now].end());
    for (const path& b : all[now]) hits += cached.contains(b);
    const auto next = [&](const path& b) {
      for (std::size_t r = now + 1; r < all.size(); ++r)
        if (std::find(all[r].begin(), all[r].end(), b) != all[r].end()) return r;
      return all.size();
    };
    const auto shrink = [&] {
      for (;;) {
        std::size_t counted = 0;
        std::pair<std::size_t, std::size_t> worst{0, 0};
        const path* victim = nullptr;
        for (const path& b : cached) {
          ++counted;
          if (std::pair key(next(b), b.size()); victim == nullptr || key > worst)
            worst = key, victim = &b;
        }
        if (victim == nullptr || (counted <= capacity && worst.first < all.size())) return;
        cached.erase(path(*victim));
      }
    };
    cached.insert(mine.begin(), mine.end());
    shrink();
  }
  return hits;
}

trace random_trace(std::uint64_t seed, std::uint32_t requests, std::uint32_t block_tokens,
                   bool whole_segments) {
  std::mt19937_64 random(seed);
  trace t;
  std::vector<std::vector<segment>> made;
  for (std::uint32_t i = 0; i < requests; ++i) {
    std::vector<segment> s;
    if (!made.empty() && random() % 4 != 0) {
      s = made[random() % made.size()];
      s.resize(1 + random() % s.size());
    }
    for (std::uint64_t n = s.empty() ? 1 : random() % 3; n > 0; --n)
      s.push_back({random() % 1000, block_tokens * static_cast<std::uint32_t>(
                                                       whole_segments ? 1 : 1 + random() % 3)});
    trace_request r;
    r.first_segment = t.segments.size();
    r.segments = static_cast<std::uint32_t>(s.size());
    for (const segment& one : s) r.prompt_tokens += one.tokens;
    t.segments.insert(t.segments.end(), s.begin(), s.end());
    t.requests.push_back(r);
    made.push_back(std::move(s));
  }
  return t;
}

TEST(belady, agrees_with_a_search_for_the_block_needed_last) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const trace t = random_trace(seed, 40, 2, seed % 2 == 0);
    for (const std::size_t capacity : {0u, 1u, 3u, 8u, 20u, 1000u}) {
      const belady_result r = belady(t, static_cast<std::int64_t>(capacity), 2, 0);
      EXPECT_EQ(r.hit_blocks, hits_by_search(t, capacity, 2))
          << "seed " << seed << " capacity " << capacity;
    }
  }
}

struct prompt_of {
  std::vector<segment> segments;
  std::uint32_t name_space = 0;
};

trace trace_of(const std::vector<prompt_of>& prompts) {
  trace t;
  t.name_spaces = {"", "a", "b"};
  for (const prompt_of& p : prompts) {
    trace_request r;
    r.name_space = p.name_space;
    r.first_segment = t.segments.size();
    r.segments = static_cast<std::uint32_t>(p.segments.size());
    for (const segment& s : p.segments) r.prompt_tokens += s.tokens;
    t.segments.insert(t.segments.end(), p.segments.begin(), p.segments.end());
    t.requests.push_back(r);
  }
  return t;
}

TEST(belady, counts_the_partial_block_of_a_prompt_that_was_there_as_a_whole) {
  const trace t = trace_of({{{{1, 5}}}, {{{1, 5}}}, {{{1, 3}}}, {{{1, 7}}}});
  const belady_result r = belady(t, 100, 4, 0);
  EXPECT_EQ(r.blocks, 2u + 2 + 1 + 2);
  // The same prompt: both blocks. A shorter one: its only block, which stays whole for the last. No
  // prompt's last token counts as a hit.
  EXPECT_EQ(r.hit_blocks, 0u + 2 + 1 + 1);
  EXPECT_EQ(r.hit_tokens, 0u + 4 + 2 + 4);
}

TEST(belady, a_block_stays_whole_when_a_prompt_ends_inside_it) {
  EXPECT_EQ(belady(trace_of({{{{1, 100}}}, {{{1, 50}}}, {{{1, 100}}}}), 1, 512, 8).hit_blocks, 2u);
  EXPECT_EQ(
      belady(trace_of({{{{7, 512}, {1, 100}}}, {{{7, 512}, {1, 50}}}, {{{7, 512}, {1, 100}}}}), 2,
             512, 8)
          .hit_blocks,
      4u);
  // Both ways on from the short prompt count as used by it.
  const trace t = trace_of({{{{1, 50}, {2, 50}}},
                            {{{1, 50}, {3, 50}}},
                            {{{1, 50}}},
                            {{{1, 50}, {2, 50}}},
                            {{{1, 50}, {3, 50}}}});
  EXPECT_EQ(belady(t, 2, 512, 8).hit_blocks, 3u);
  EXPECT_EQ(belady(t, 1, 512, 8).hit_blocks, 2u);
  EXPECT_EQ(belady(t, 0, 512, 8).hit_blocks, 0u);
}

TEST(belady, namespaces_share_nothing) {
  const std::vector<segment> same{{1, 512}, {2, 512}};
  EXPECT_EQ(belady(trace_of({{same, 1}, {same, 2}}), 100, 512, 8).hit_blocks, 0u);
  const belady_result r = belady(trace_of({{same, 1}, {same, 2}, {same, 1}, {same, 2}}), 3, 512, 8);
  EXPECT_EQ(r.hit_blocks, 3u);
  EXPECT_EQ(r.evicted_blocks, 1u);
}

TEST(belady, a_prefix_that_is_too_short_is_a_miss) {
  const trace t =
      trace_of({{{{1, 7}, {2, 9}}}, {{{1, 7}, {3, 9}}}, {{{1, 7}}}, {{{1, 8}}}, {{{1, 8}}}});
  EXPECT_EQ(belady(t, 100, 1, 8).hit_blocks, 8u);
  EXPECT_EQ(belady(t, 100, 1, 8).hit_tokens, 7u);
  EXPECT_EQ(belady(t, 100, 1, 7).hit_blocks, 0u + 7 + 7 + 7 + 8);
}

TEST(belady, an_empty_trace_hits_nothing) { EXPECT_EQ(belady(trace{}, 10, 16, 8).blocks, 0u); }

}  // namespace
}  // namespace radixkv::cli
