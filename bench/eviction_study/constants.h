// The constants of reuse_index by name, so that a study can vary them.
#pragma once

#include <string>
#include <vector>

#include "csrc/core/eviction/reuse_index_options.h"
#include "radixkv/result.h"

namespace radixkv::study {

[[nodiscard]] std::vector<std::string> constant_names();
// setting: NAME=VALUE, or NAME*FACTOR of what it is. Errors: invalid_argument, naming what is
// wrong.
[[nodiscard]] status set_constant(detail::reuse_index_options& options, const std::string& setting);

}  // namespace radixkv::study
