// The hash of tables of namespaces' names, keyed: tenants may choose names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "csrc/core/mix.h"

namespace radixkv::detail {

struct name_hash {
  using is_transparent = void;
  std::size_t operator()(std::string_view s) const noexcept {
    return static_cast<std::size_t>(mix(s, secret));
  }
  std::uint64_t secret = random_secret();
};

}  // namespace radixkv::detail
