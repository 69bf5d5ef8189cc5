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
// 3. A namespace keeps its id for ever, so that a match cannot meet another namespace's blocks.
//
// Thread-safety: every member may be called from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "radixkv/cuda_index.h"
#include "radixkv/export.h"
#include "radixkv/index_listener.h"
#include "radixkv/result.h"

namespace radixkv {

class RADIXKV_EXPORT cuda_index_feed final : public index_listener {
 public:
  // REQUIRES: index, for blocks and block_tokens of the cache. The prefixes of namespaces beyond
  // `max_namespaces` are not mirrored.
  explicit cuda_index_feed(std::shared_ptr<cuda_index> index,
                           std::int32_t max_namespaces = 1 << 20);

  // The id for cuda_match_batch::namespace_ids; given at first sight.
  // Errors: invalid_argument (more than max_namespaces), out_of_memory.
  [[nodiscard]] result<std::int32_t> namespace_id(std::string_view name_space);
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

  std::shared_ptr<cuda_index> index_;
  std::int32_t max_namespaces_;
  std::mutex mutex_;  // guards ids_
  std::unordered_map<std::string, std::int32_t, hash, std::equal_to<>> ids_;
  std::atomic<std::int64_t> refused_ = 0;
  std::uint64_t retired_ = 0;  // under the cache's lock
  std::uint64_t ticket_ = 0;   // the last one given; the same
};

}  // namespace radixkv
