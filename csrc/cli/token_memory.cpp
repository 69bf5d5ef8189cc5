#include "csrc/cli/token_memory.h"

#include <cstring>
#include <string>

#include <sys/mman.h>

namespace radixkv::cli {

status token_memory::allocate(std::uint64_t tokens, const char* what) {
  reset();
  const std::uint64_t bytes = tokens * sizeof(token_id);
  void* const memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return {errc::out_of_memory, "no memory for " + std::to_string(bytes) + " bytes of " + what};
  }
  ::madvise(memory, bytes, MADV_HUGEPAGE);
  data_ = static_cast<token_id*>(memory);
  tokens_ = tokens;
  return {};
}

void token_memory::reset() noexcept {
  if (data_ != nullptr) ::munmap(data_, tokens_ * sizeof(token_id));
  data_ = nullptr;
  tokens_ = 0;
}

void token_memory::commit() noexcept { std::memset(data_, 0xff, tokens_ * sizeof(token_id)); }

}  // namespace radixkv::cli
