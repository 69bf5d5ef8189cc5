// What the default policy is built with. The values are chosen in docs/eviction.md, where a study
// says what others do; nobody has to set any.
#pragma once

#include <cstdint>

namespace radixkv::detail {

struct hazard_options {
  float rate = 0.1f;         // of learning: bins and features
  float group_rate = 0.07f;  // features in a group of bins
  float first_hazard = 0.3f;
  float most_tokens = 3584;  // a larger run teaches no more than one of so many
};

struct guard_options {
  double tolerated_loss = 0.005;  // half of the 1 % that is to be kept
  double caution = 2;             // octaves of the key, where nothing speaks for the model
  double little = 0.05;           // of the blocks asked for: where LRU hits less, promises decide
  double margin = 0.25;           // of LRU's hits, that promises must exceed
  // Standard deviations of what is promised from which a stake is risked, and all of the cache is:
  // less than two may be chance, and an early prompt that is lost for it is a large share of few
  // hits.
  double least_promise = 2, full_promise = 4;
  double doubt = 1;          // standard deviations by which a loss may be chance
  double most_debt = 0.125;  // hits lost beyond what is tolerated, per block of the cache
  // Longer than the oldest age bin, so that outcomes are judged and not moods.
  double memory = 20'000;  // requests
};

struct reuse_index_options {
  double history_bytes_per_token = 1.9;  // of capacity; the most that histories may take
  // Ghosts below 8 × capacity lose hits (2 × loses up to 19 %), and small caches need a floor to
  // learn from: conversations return after minutes whatever the cache holds.
  std::int64_t ghost_capacities = 8;
  std::int64_t ghost_tokens_least = 27'000'000;
  std::uint32_t chunk_tokens = 256;  // granularity at which evicted paths are recognised
  std::uint32_t tail_tokens = 256;
  // A run with more continuations than this is a shared beginning.
  std::uint32_t shared_children = 4;
  // A bin is looked at so often that no run is late by more than this share of its age, which costs
  // hits where it is an eighth (1 % with 16-token blocks), and not measurably from 1/32 on.
  std::uint32_t lateness = 32;
  std::uint32_t longest_period = 64;  // requests; a power of two
  // Everything is learnt for this many lessons; then they thin out as the model's own steps
  // shorten.
  std::uint64_t full_lessons = 10'000;
  std::uint32_t least_quantum = 1280, largest_quantum = 20'480;  // tokens
  hazard_options model;
  guard_options guard;
};

}  // namespace radixkv::detail
