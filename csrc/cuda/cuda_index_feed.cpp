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

result<std::int32_t> cuda_index_feed::namespace_id(std::string_view name_space) try {
  const std::lock_guard lock(mutex_);
  if (const auto known = ids_.find(name_space); known != ids_.end()) return known->second;
  const auto next = static_cast<std::int32_t>(ids_.size());
  if (next >= max_namespaces_) {
    return {errc::invalid_argument,
            "another namespace beyond max_namespaces, " + std::to_string(max_namespaces_)};
  }
  ids_.emplace(name_space, next);
  return next;
} catch (const std::bad_alloc&) {
  return {errc::out_of_memory, "no memory for another namespace"};
}

bool cuda_index_feed::on_publish(block_id block, block_id parent, std::string_view name_space,
                                 std::span<const token_id> tokens) noexcept {
  try {
    const result<std::int32_t> id = namespace_id(name_space);
    if (id && index_->add(block, parent, *id, tokens)) return true;
  } catch (const std::bad_alloc&) {
    // An error's text found no memory: as good as the error.
  }
  ++refused_;
  return false;
}

std::uint64_t cuda_index_feed::on_drop(block_id block) noexcept {
  // Whoever is asked about what he does not know had better keep the block for ever.
  constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();
  if (ticket_ == never) return never;
  try {
    const result<std::uint64_t> update = index_->remove(block);
    ticket_ = update ? *update : never;
  } catch (const std::bad_alloc&) {
    ticket_ = never;
  }
  return ticket_;
}

std::uint64_t cuda_index_feed::retired() noexcept {
  try {
    if (const result<std::uint64_t> reached = index_->retired()) retired_ = *reached;
  } catch (const std::bad_alloc&) {
    // An error's text again.
  }
  return retired_;
}

}  // namespace radixkv
