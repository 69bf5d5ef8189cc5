#include "radixkv/cuda_index_feed.h"

#include <limits>
#include <new>
#include <utility>

#include "csrc/core/mix.h"
#include "csrc/cuda/device_secret.h"

namespace radixkv {

cuda_index_feed::hash::hash() : secret_(device_secret()) {}

std::size_t cuda_index_feed::hash::operator()(std::string_view s) const noexcept {
  return static_cast<std::size_t>(detail::mix(s, secret_));
}

cuda_index_feed::cuda_index_feed(std::shared_ptr<cuda_index> index, std::int32_t max_namespaces)
    : index_(std::move(index)), max_namespaces_(max_namespaces) {}

void cuda_index_feed::list(space& s) noexcept {
  s.older = newest_;
  s.newer = nullptr;
  (newest_ != nullptr ? newest_->newer : oldest_) = &s;
  newest_ = &s;
}

void cuda_index_feed::unlist(space& s) noexcept {
  (s.older != nullptr ? s.older->newer : oldest_) = s.newer;
  (s.newer != nullptr ? s.newer->older : newest_) = s.older;
}

void cuda_index_feed::let_go(space& s) noexcept {
  if (--s.blocks == 0) list(s);
}

cuda_index_feed::space* cuda_index_feed::find(std::string_view name_space) noexcept {
  const auto at = spaces_.find(name_space);
  if (at == spaces_.end()) return nullptr;
  if (at->second.blocks == 0) {  // was asked for again
    unlist(at->second);
    list(at->second);
  }
  return &at->second;
}

cuda_index_feed::space* cuda_index_feed::find_or_add(std::string_view name_space) {
  if (space* const s = find(name_space); s != nullptr) return s;
  const bool full = static_cast<std::int64_t>(spaces_.size()) >= max_namespaces_;
  if (full && oldest_ == nullptr) return nullptr;
  if (next_id_ == unpublished) return nullptr;  // all ids have been given, and none is given twice
  const auto [at, is_new] = spaces_.try_emplace(std::string(name_space));
  space& s = at->second;
  s.id = next_id_++;
  s.name = &at->first;
  list(s);
  if (full) {
    space& forgotten = *oldest_;
    unlist(forgotten);
    spaces_.erase(spaces_.find(*forgotten.name));
  }
  return &s;
}

std::int32_t cuda_index_feed::namespace_id(std::string_view name_space) noexcept {
  const std::lock_guard lock(mutex_);
  const space* const s = find(name_space);
  return s != nullptr ? s->id : unpublished;
}

bool cuda_index_feed::take(block_id block, block_id parent, std::string_view name_space,
                           std::span<const token_id> tokens) {
  if (block < 0) return false;
  const auto at = static_cast<std::size_t>(block);
  if (owners_.size() <= at) owners_.resize(at + 1);
  space* owner = nullptr;
  {
    const std::lock_guard lock(mutex_);
    owner = find_or_add(name_space);
    if (owner == nullptr) return false;
    if (owner->blocks++ == 0) unlist(*owner);
  }
  // Not under the lock: the index may be busy with an update.
  const bool taken = index_->add(block, parent, owner->id, tokens).ok();
  if (taken) {
    owners_[at] = owner;
  } else {
    const std::lock_guard lock(mutex_);
    let_go(*owner);
  }
  return taken;
}

bool cuda_index_feed::on_publish(block_id block, block_id parent, std::string_view name_space,
                                 std::span<const token_id> tokens) noexcept {
  try {
    if (take(block, parent, name_space, tokens)) return true;
  } catch (const std::bad_alloc&) {  // before anything changed
  }
  ++refused_;
  return false;
}

std::uint64_t cuda_index_feed::on_drop(block_id block) noexcept {
  // Whoever is asked about what he does not know had better keep the block for ever.
  constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();
  if (ticket_ == never) return never;
  const result<std::uint64_t> update = index_->remove(block);
  ticket_ = update ? *update : never;
  if (!update) return never;
  // Somebody else may have added it to the index.
  const auto at = static_cast<std::size_t>(block);
  if (at < owners_.size() && owners_[at] != nullptr) {
    const std::lock_guard lock(mutex_);
    let_go(*std::exchange(owners_[at], nullptr));
  }
  return ticket_;
}

std::uint64_t cuda_index_feed::retired() noexcept {
  if (const result<std::uint64_t> reached = index_->retired()) retired_ = *reached;
  return retired_;
}

}  // namespace radixkv
