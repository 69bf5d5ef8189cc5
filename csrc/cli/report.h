// What a replay measured, for people and as JSON.
#pragma once

#include <span>
#include <string>

#include "csrc/cli/replay_result.h"
#include "radixkv/result.h"

namespace radixkv::cli {

// A readable summary of one run, several lines.
[[nodiscard]] std::string summary(const replay_result& result);

// One run as an object. Several: an array of them (`as_array` also for one). docs/replay.md lists
// the members.
[[nodiscard]] std::string to_json(std::span<const replay_result> results, bool as_array);

// Whether write_file may be expected to succeed; writes nothing. Errors: io.
[[nodiscard]] status check_writable(const std::string& path);
// Two names of one file, whether it is there already or not. Devices are never meant.
[[nodiscard]] bool same_file(const std::string& a, const std::string& b);

// Writes a whole file. Errors: io, naming the file.
[[nodiscard]] status write_file(const std::string& path, const std::string& text);

}  // namespace radixkv::cli
