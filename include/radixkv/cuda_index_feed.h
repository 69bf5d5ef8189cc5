// Keeps a cuda_index equal to what a cache offers: the listener to give to cache_options.
//
//   auto index = std::make_shared<cuda_index>(*cuda_index::create({.blocks = n, …}));
//   auto feed = std::make_shared<cuda_index_feed>(index);
//   options.listener = feed;  // then kv_cache::create(options)
//   each step: index->update(stream); index->match(stream, batch); …; index->finish(stream, ticket)
//
// 1. A match of the index answers as the cache would have at the last update, floored to whole
//    blocks, except below blocks that were refused().
// 2. A block that the cache evicts is filled anew only when no match can name it any more. An
//    engine that stops calling update() or finish() gets no evicted block back.
// 3. An id is never given to another namespace, so that a match cannot meet another namespace's
//    blocks. A namespace gets its id when it first publishes, and has it as long as it has blocks
//    in the index. Of those without, the ones that were asked for longest ago lose theirs when
//    there are max_namespaces in all. So names that nobody caches anything under take nothing from
//    those that publish, however many are asked for.
//
// Thread-safety: on_publish, on_drop and retired one at a time, as index_listener says; the others
// from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "radixkv/cuda_index.h"
#include "radixkv/export.h"
#include "radixkv/index_listener.h"

namespace radixkv {

class RADIXKV_EXPORT cuda_index_feed final : public index_listener {
 public:
  // REQUIRES: index, for blocks and block_tokens of the cache. While `max_namespaces` have blocks
  // in the index, or when 2³¹ - 1 ids have been given, the prefixes of others are not mirrored.
  explicit cuda_index_feed(std::shared_ptr<cuda_index> index,
                           std::int32_t max_namespaces = 1 << 20);

  // The id for cuda_match_batch::namespace_ids of a namespace that has published nothing, or has
  // lost its own: it matches nothing.
  static constexpr std::int32_t unpublished = std::numeric_limits<std::int32_t>::max();
  // The id for cuda_match_batch::namespace_ids; ask anew for each batch.
  [[nodiscard]] std::int32_t namespace_id(std::string_view name_space) noexcept;
  // Blocks that were offered and could not be taken.
  [[nodiscard]] std::int64_t refused() const noexcept { return refused_.load(); }
  [[nodiscard]] cuda_index& index() const noexcept { return *index_; }

  bool on_publish(block_id block, block_id parent, std::string_view name_space,
                  std::span<const token_id> tokens) noexcept override;
  std::uint64_t on_drop(block_id block) noexcept override;
  // After an error of the device nothing retires any more.
  std::uint64_t retired() noexcept override;

 private:
  // Keyed with a random secret: tenants may choose names.
  class hash {
   public:
    using is_transparent = void;
    hash();
    std::size_t operator()(std::string_view s) const noexcept;

   private:
    std::uint64_t secret_;
  };

  struct space {
    std::int32_t id = 0;
    std::int64_t blocks = 0;                   // in the index, or on their way there
    const std::string* name = nullptr;         // its key
    space *older = nullptr, *newer = nullptr;  // in the list of those without blocks
  };

  // on_publish, but may throw std::bad_alloc, changing nothing.
  [[nodiscard]] bool take(block_id block, block_id parent, std::string_view name_space,
                          std::span<const token_id> tokens);
  // These REQUIRE mutex_. find_or_add: null if there is no room or no id left; it may throw
  // std::bad_alloc, changing nothing.
  [[nodiscard]] space* find(std::string_view name_space) noexcept;
  [[nodiscard]] space* find_or_add(std::string_view name_space);
  void list(space& s) noexcept;  // as the newest one without blocks
  void unlist(space& s) noexcept;
  void let_go(space& s) noexcept;  // of one of its blocks

  std::shared_ptr<cuda_index> index_;
  std::int32_t max_namespaces_;
  std::mutex mutex_;  // guards what follows, down to next_id_
  std::unordered_map<std::string, space, hash, std::equal_to<>> spaces_;
  space *oldest_ = nullptr, *newest_ = nullptr;  // of those without blocks
  std::int32_t next_id_ = 0;
  std::atomic<std::int64_t> refused_ = 0;
  // Under the cache's lock:
  std::vector<space*> owners_;  // by block: null, or whose it is
  std::uint64_t retired_ = 0;
  std::uint64_t ticket_ = 0;  // the last one given
};

}  // namespace radixkv
