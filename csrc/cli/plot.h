// Block hit rate against capacity as a picture: one line per policy, capacities on a logarithmic
// axis.
#pragma once

#include <span>
#include <string>

#include "csrc/cli/replay_result.h"

namespace radixkv::cli {

// A whole SVG document. REQUIRES: at least one result.
[[nodiscard]] std::string to_svg(std::span<const replay_result> results);

}  // namespace radixkv::cli
