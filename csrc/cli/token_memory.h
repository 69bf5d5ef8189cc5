// A large array of tokens straight from the system, in huge pages where it has them.
#pragma once

#include <cstdint>
#include <utility>

#include "radixkv/result.h"
#include "radixkv/types.h"

namespace radixkv::cli {

class token_memory {
 public:
  token_memory() noexcept = default;
  token_memory(const token_memory&) = delete;
  token_memory& operator=(const token_memory&) = delete;
  ~token_memory() { reset(); }

  // Zeroed, and committed when first touched; what was there before is given back first.
  // Errors: out_of_memory, naming the bytes and `what` they are for.
  status allocate(std::uint64_t tokens, const char* what);
  void reset() noexcept;
  // Touches every page, so that what is timed later finds memory.
  void commit() noexcept;

  [[nodiscard]] token_id* data() const noexcept { return data_; }
  [[nodiscard]] std::uint64_t tokens() const noexcept { return tokens_; }

 private:
  token_id* data_ = nullptr;
  std::uint64_t tokens_ = 0;
};

}  // namespace radixkv::cli
