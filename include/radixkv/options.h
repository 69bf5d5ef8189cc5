// Configuration of a kv_cache, validated at creation.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "radixkv/index_listener.h"
#include "radixkv/result.h"
#include "radixkv/types.h"

namespace radixkv {

class eviction_policy;

enum class pressure : std::uint8_t {
  none,  // free blocks above the high watermark
  low,   // below the high watermark (30 %)
  high   // below the low watermark (10 %)
};

// Free and evictable blocks at the moment a watermark was crossed.
struct pressure_event {
  pressure level = pressure::none;
  std::int64_t free_blocks = 0;
  std::int64_t blocks = 0;
};

struct cache_options {
  std::int64_t blocks = 0;               // blocks in the pool, 1 … max_blocks
  std::uint32_t block_tokens = 16;       // tokens per block: a power of two, 1 … max_block_tokens
  std::uint32_t min_prefix_tokens = 8;   // a shorter match counts as a miss, and is counted
  std::int64_t max_prefixes = 0;         // most cached prefixes (leaves of the index); 0: no limit
  std::int32_t logits_rows = 0;          // rows of the logits store; 0: no logits are kept
  std::int64_t max_sequences = 1 << 20;  // most sequences open at once
  // Most hints at a time; more are refused. Each takes 200 to 350 bytes of host memory, a pinned
  // prefix up to 750; an announcement some 1.0 per token of its prompt in addition, a pinned prefix
  // 4 per token.
  std::int64_t max_announcements = 1 << 12;
  std::int64_t max_pinned_prefixes = 1 << 10;
  std::int64_t max_quotas = 1 << 16;
  // Of open sequences, and of released ones as long as their blocks are cached.
  std::int64_t max_sequence_hints = 1 << 20;
  std::string policy = "reuse_index";  // what to evict: see make_policy, docs/eviction.md
  // Makes the cache's policy, an application's own (eviction_policy.h), instead of `policy`, which
  // becomes its name. Called once, by create; what it throws is passed on, but for std::bad_alloc,
  // and leaves no cache.
  std::function<std::unique_ptr<eviction_policy>()> policy_factory = {};

  // Takes the memory of the pool's tokens, blocks and nodes (one for four blocks), blocks ×
  // (block_tokens × 4 + 24) bytes, at creation, so that no request waits for the system to find and
  // clear it. Otherwise memory is taken as blocks are used.
  bool prefault = false;

  // Called, under no lock, by the thread whose operation took the number of free blocks across a
  // watermark, a share of the pool in [0, 1]. Cached blocks are not free: the first crossing tells
  // that eviction is about to start. A pool that nobody has used yet is not under pressure. Must
  // not call back into the sequence whose operation it was. What it throws ends the process.
  double low_watermark = 0.10;
  double high_watermark = 0.30;
  std::function<void(const pressure_event&)> on_pressure = {};

  // Told of every whole block that becomes matchable or stops being so.
  std::shared_ptr<index_listener> listener = {};

  // Seconds since any fixed moment; steady_clock when empty. Replays pass the trace's time. Called
  // under the lock: must not call the cache. What it throws ends the process.
  std::function<double()> clock = {};

  // Number of bits kept of the index's internal hashes. Fewer than 64 only in tests, to force
  // collisions: the answers stay the same.
  std::uint32_t hash_bits = 64;

  [[nodiscard]] status validate() const;
};

}  // namespace radixkv
