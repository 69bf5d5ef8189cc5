// Several replays side by side: policies against capacities.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "csrc/cli/replay_result.h"

namespace radixkv::cli {

// How much of the way from LRU to the offline optimum this run's block hit rate goes: 0 is LRU's, 1
// is Belady's. None unless both were replayed at the same capacity and they differ.
[[nodiscard]] std::optional<double> gap_closed(const replay_result& result,
                                               std::span<const replay_result> all);

// One row per policy, one column per capacity, both in order of appearance.
[[nodiscard]] std::string table(std::span<const replay_result> results);

// One line per replay, with a header; gap_closed and total_mean_us are empty where there is none.
[[nodiscard]] std::string to_csv(std::span<const replay_result> results);

}  // namespace radixkv::cli
