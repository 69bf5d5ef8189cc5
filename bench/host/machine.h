// What a figure depends on beside the code: processor, memory, huge pages, build.
#pragma once

#include <string>
#include <vector>

namespace radixkv::bench {

// One line each, for people: processor, caches, memory, system, huge pages, build type, compiler.
// Finds out whether huge pages are granted by asking for some.
[[nodiscard]] std::vector<std::string> describe_machine();

// True if the code was compiled without optimisation or with assertions.
[[nodiscard]] bool slow_build();

}  // namespace radixkv::bench
