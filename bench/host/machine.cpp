#include "bench/host/machine.h"

#include <cstdint>
#include <fstream>
#include <sstream>
#include <thread>

#include <sys/utsname.h>
#include <unistd.h>

#include "csrc/core/stable_array.h"

namespace radixkv::bench {

namespace {

// The text after the first line's colon that begins with `key`.
std::string field(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const std::size_t colon = line.find(':');
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return colon == std::string::npos || begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

std::string first_line(const std::string& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string caches() {
  std::ostringstream out;
  for (int i = 0; i < 8; ++i) {
    const std::string at = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/";
    const std::string size = first_line(at + "size");
    if (size.empty() || first_line(at + "type") == "Instruction") continue;
    out << (out.tellp() > 0 ? ", " : "") << 'L' << first_line(at + "level") << ' ' << size;
  }
  return out.str().empty() ? "unknown" : out.str();
}

std::uint64_t huge_kilobytes() {
  const std::string value = field("/proc/self/smaps_rollup", "AnonHugePages");
  return value.empty() ? 0 : std::stoull(value);
}

std::string huge_pages() {
  constexpr std::size_t megabytes = 64;
  constexpr std::size_t page = 4096;
  const std::uint64_t before = huge_kilobytes();
  detail::stable_array<char> memory;
  if (!memory.reserve(megabytes << 20)) return "unknown: no memory";
  for (std::size_t i = 0; i < megabytes << 20; i += page) memory[i] = 1;
  const std::uint64_t granted = (huge_kilobytes() - before) >> 10;
  return std::to_string(granted) + " of " + std::to_string(megabytes) +
         " MiB granted (transparent_hugepage: " +
         first_line("/sys/kernel/mm/transparent_hugepage/enabled") + ")";
}

}  // namespace

std::vector<std::string> describe_machine() {
  utsname system{};
  uname(&system);
  std::ostringstream memory;
  memory << (static_cast<double>(sysconf(_SC_PHYS_PAGES)) *
             static_cast<double>(sysconf(_SC_PAGE_SIZE)) / (1u << 30))
         << " GiB";
  return {
    "processor: " + field("/proc/cpuinfo", "model name") + ", " +
        std::to_string(std::thread::hardware_concurrency()) + " cores, family " +
        field("/proc/cpuinfo", "cpu family") + " model " + field("/proc/cpuinfo", "model\t") +
        (field("/proc/cpuinfo", "flags").find("hypervisor") != std::string::npos
             ? ", a virtual machine"
             : ""),
        "caches: " + caches(), "memory: " + memory.str(),
        std::string("system: ") + system.sysname + ' ' + system.release,
        "huge pages: " + huge_pages(),
        std::string("build: ") + RADIXKV_BUILD_TYPE + ", " +
#if defined(__clang__)
            "clang "
#else
            "gcc "
#endif
            + __VERSION__,
  };
}

bool slow_build() {
#if defined(NDEBUG) && defined(__OPTIMIZE__)
  return false;
#else
  return true;
#endif
}

}  // namespace radixkv::bench
