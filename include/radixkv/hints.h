// Handles for what a caller tells a cache about requests to come and prefixes to keep.
//
// Both keep what is cached of a prefix now and what is published of it later (an announcement in
// coarse steps); neither allocates a block or makes anything wait. Handles are move-only;
// destroying one takes back what it says.
//
// Thread-safety: as a sequence, a handle is used by one thread at a time; any order of destruction
// is fine, the cache's handle included.
#pragma once

#include <cstdint>
#include <memory>

#include "radixkv/export.h"

namespace radixkv {

class kv_cache;

namespace detail {
class cache_core;
}

// A request that waits (kv_cache::announce). Until it is opened with kv_cache::open or open_batch,
// or withdrawn, what is cached of its prompt is evicted only when nothing else is left; among
// announcements the latest gives way first. What is published of the prompt after the announcement
// is known by hashes, and held in multiples of the policy's path_hash_tokens (256 under
// reuse_index, else 128 or block_tokens, whichever is more): the rest, or all of a shorter prompt,
// is left to the policy unless it is announced again.
class RADIXKV_EXPORT announcement {
 public:
  announcement() noexcept = default;  // of nothing
  announcement(announcement&& other) noexcept;
  announcement& operator=(announcement&& other) noexcept;
  announcement(const announcement&) = delete;
  announcement& operator=(const announcement&) = delete;
  ~announcement();  // withdraws

  // The request was cancelled. Idempotent.
  void withdraw() noexcept;
  // Opened, withdrawn, moved from, or never made.
  [[nodiscard]] bool withdrawn() const noexcept { return !core_; }
  // Tokens of the prompt that are cached and held now, in whole blocks. Takes the cache's lock.
  [[nodiscard]] std::int64_t held_tokens() const;

 private:
  friend class kv_cache;
  announcement(std::shared_ptr<detail::cache_core> core, std::uint64_t mark) noexcept;
  std::shared_ptr<detail::cache_core> core_;
  std::uint64_t mark_ = 0;
};

// A prefix that stays (kv_cache::pin_prefix): what is cached of it is never evicted while the
// handle lives, and counts as in use where room is sought. kv_cache::clear drops it all the same;
// what is published of it afterwards stays again.
class RADIXKV_EXPORT pinned_prefix {
 public:
  pinned_prefix() noexcept = default;  // of nothing
  pinned_prefix(pinned_prefix&& other) noexcept;
  pinned_prefix& operator=(pinned_prefix&& other) noexcept;
  pinned_prefix(const pinned_prefix&) = delete;
  pinned_prefix& operator=(const pinned_prefix&) = delete;
  ~pinned_prefix();  // unpins

  // It may be evicted from now on. Idempotent.
  void unpin() noexcept;
  // Unpinned, moved from, or never made.
  [[nodiscard]] bool unpinned() const noexcept { return !core_; }
  // Tokens of the prefix that are cached and stay: whole blocks, or all. Takes the cache's lock.
  [[nodiscard]] std::int64_t held_tokens() const;

 private:
  friend class kv_cache;
  pinned_prefix(std::shared_ptr<detail::cache_core> core, std::uint64_t mark) noexcept;
  std::shared_ptr<detail::cache_core> core_;
  std::uint64_t mark_ = 0;
};

}  // namespace radixkv
