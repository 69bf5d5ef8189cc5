// The least that any cache which keeps tokens must do for a request: compare the matched tokens
// with equal ones elsewhere, and copy the new ones somewhere. Only that, timed, is what a replay's
// times are compared with.
#pragma once

#include <cstdint>
#include <span>

#include "csrc/cli/token_expander.h"
#include "csrc/cli/token_memory.h"
#include "radixkv/result.h"

namespace radixkv::cli {

// Thread-safety: none.
class floor_meter {
 public:
  // Compares with, and copies to, memory as large as the cache's own tokens.
  // Errors: out_of_memory. REQUIRES: capacity_tokens ≥ 1.
  status prepare(std::uint64_t capacity_tokens);

  // Times requests [first, first + matched.size()) of the buffer, of which matched[i] leading
  // tokens are compared; a request larger than the capacity is left out. Errors: none but a
  // difference where there can be none.
  status measure(const prompt_buffer& prompts, std::size_t first,
                 std::span<const std::uint32_t> matched);

  [[nodiscard]] double mean_us() const noexcept {
    return requests_ == 0 ? 0.0 : nanoseconds_ / 1000.0 / static_cast<double>(requests_);
  }

 private:
  token_memory equal_;  // what the matched tokens are compared with
  token_memory ring_;   // where the new tokens go
  std::uint64_t ring_at_ = 0;
  double nanoseconds_ = 0;
  std::uint64_t requests_ = 0;
};

}  // namespace radixkv::cli
