// The handles of announcements and pinned prefixes: forward to the core.
#include <utility>

#include "csrc/core/cache_core.h"
#include "radixkv/hints.h"

namespace radixkv {

announcement::announcement(std::shared_ptr<detail::cache_core> core, std::uint64_t mark) noexcept
    : core_(std::move(core)), mark_(mark) {}
announcement::announcement(announcement&& other) noexcept = default;
announcement& announcement::operator=(announcement&& other) noexcept {
  if (this != &other) {
    withdraw();
    core_ = std::move(other.core_);
    mark_ = other.mark_;
  }
  return *this;
}
announcement::~announcement() { withdraw(); }

void announcement::withdraw() noexcept {
  // It may hold the last reference to the core, which must outlive the call.
  if (const std::shared_ptr<detail::cache_core> core = std::move(core_)) core->withdraw(mark_);
}
std::int64_t announcement::held_tokens() const { return core_ ? core_->held_tokens(mark_) : 0; }

pinned_prefix::pinned_prefix(std::shared_ptr<detail::cache_core> core, std::uint64_t mark) noexcept
    : core_(std::move(core)), mark_(mark) {}
pinned_prefix::pinned_prefix(pinned_prefix&& other) noexcept = default;
pinned_prefix& pinned_prefix::operator=(pinned_prefix&& other) noexcept {
  if (this != &other) {
    unpin();
    core_ = std::move(other.core_);
    mark_ = other.mark_;
  }
  return *this;
}
pinned_prefix::~pinned_prefix() { unpin(); }

void pinned_prefix::unpin() noexcept {
  if (const std::shared_ptr<detail::cache_core> core = std::move(core_)) core->unpin_prefix(mark_);
}
std::int64_t pinned_prefix::held_tokens() const { return core_ ? core_->held_tokens(mark_) : 0; }

}  // namespace radixkv
