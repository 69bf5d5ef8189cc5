#include "radixkv/result.h"

#include "radixkv/export.h"

namespace radixkv {

RADIXKV_EXPORT const char* to_string(errc code) noexcept {
  switch (code) {
    case errc::invalid_argument:
      return "invalid_argument";
    case errc::out_of_blocks:
      return "out_of_blocks";
    case errc::out_of_memory:
      return "out_of_memory";
    case errc::released:
      return "released";
    case errc::corrupt:
      return "corrupt";
    case errc::device:
      return "device";
    case errc::not_found:
      return "not_found";
    case errc::io:
      return "io";
    case errc::busy:
      return "busy";
  }
  return "unknown";
}

}  // namespace radixkv
