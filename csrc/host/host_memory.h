// Zeroed anonymous memory, aligned for huge pages, returned to the system on destruction.
#pragma once

#include <cstddef>
#include <cstdint>

#include "radixkv/result.h"

namespace radixkv::detail {

class host_memory {
 public:
  host_memory() noexcept = default;
  // Pages are committed when first touched. Errors: out_of_memory naming the bytes.
  [[nodiscard]] static result<host_memory> create(std::uint64_t bytes);
  host_memory(host_memory&& other) noexcept;
  host_memory& operator=(host_memory&& other) noexcept;
  ~host_memory();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
  void* mapping_ = nullptr;
  std::uint64_t mapped_ = 0;
};

}  // namespace radixkv::detail
