#include "csrc/host/host_memory.h"

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <sys/mman.h>

namespace radixkv::detail {

namespace {
constexpr std::uint64_t huge_page = std::uint64_t{2} << 20;
}

result<host_memory> host_memory::create(std::uint64_t bytes) {
  host_memory m;
  if (bytes == 0) return m;
  // Small memory needs no huge page, and large memory starts at one.
  const std::uint64_t slack = bytes >= huge_page ? huge_page : 0;
  if (bytes > ~std::uint64_t{0} / 2) {
    return {errc::out_of_memory, "host memory: " + std::to_string(bytes) + " bytes"};
  }
  void* p =
      mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    return {errc::out_of_memory, "host memory: the system refused " + std::to_string(bytes) +
                                     " bytes: " + std::strerror(errno)};
  }
  m.mapping_ = p;
  m.mapped_ = bytes + slack;
  m.data_ = static_cast<std::byte*>(p);
  m.bytes_ = bytes;
  if (slack > 0) {
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    m.data_ += (huge_page - address % huge_page) % huge_page;
    // Advice only: without it everything works, more slowly.
    (void)madvise(m.data_, bytes / huge_page * huge_page, MADV_HUGEPAGE);
  }
  return m;
}

host_memory::host_memory(host_memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      mapping_(std::exchange(other.mapping_, nullptr)),
      mapped_(std::exchange(other.mapped_, 0)) {}

host_memory& host_memory::operator=(host_memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

host_memory::~host_memory() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

}  // namespace radixkv::detail
