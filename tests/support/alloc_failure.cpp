#include "tests/support/alloc_failure.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

#include "csrc/core/eviction/mapped_array.h"

namespace {

struct thread_state {
  std::int64_t left = -1;  // allocations until one fails; negative: none does
  bool from_then_on = false;
  bool fired = false;
  std::int64_t live = 0;
  std::uint64_t asked = 0;
  std::size_t largest = 0;
};
thread_local thread_state state;

bool refused() noexcept {
  if (state.left < 0) return false;
  if (state.left > 0) {
    --state.left;
    return false;
  }
  state.fired = true;
  if (!state.from_then_on) state.left = -1;
  return true;
}

void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
  ++state.asked;
  state.largest = std::max(state.largest, bytes);
  if (refused()) return nullptr;
  if (bytes == 0) bytes = 1;
  void* p = alignment <= alignof(std::max_align_t)
                ? std::malloc(bytes)
                : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (p) ++state.live;
  return p;
}

void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
  if (void* p = allocate(bytes, alignment)) return p;
  throw std::bad_alloc();
}

#if defined(RADIXKV_DEBUG_CHECKS)
[[maybe_unused]] const bool pages_are_refused_too = [] {
  radixkv::detail::refuses_pages = refused;
  return true;
}();
#endif

void give_back(void* p) noexcept {
  if (p) --state.live;
  std::free(p);
}

}  // namespace

namespace radixkv::testing {

alloc_failure::alloc_failure(std::int64_t nth, bool from_then_on) noexcept {
  state.left = nth;
  state.from_then_on = from_then_on;
  state.fired = false;
}
alloc_failure::~alloc_failure() { stop(); }
void alloc_failure::stop() noexcept { state.left = -1; }
bool alloc_failure::fired() const noexcept { return state.fired; }

std::int64_t live_allocations() noexcept { return state.live; }
std::uint64_t allocations_asked_for() noexcept { return state.asked; }
std::size_t& largest_allocation() noexcept { return state.largest; }

}  // namespace radixkv::testing

void* operator new(std::size_t n) { return allocate_or_throw(n, 1); }
void* operator new[](std::size_t n) { return allocate_or_throw(n, 1); }
void* operator new(std::size_t n, std::align_val_t a) {
  return allocate_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a) {
  return allocate_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, 1); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, 1); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { give_back(p); }
void operator delete[](void* p) noexcept { give_back(p); }
void operator delete(void* p, std::size_t) noexcept { give_back(p); }
void operator delete[](void* p, std::size_t) noexcept { give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { give_back(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { give_back(p); }
