#include "bench/host/machine.h"

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <thread>

#include <sys/utsname.h>
#include <unistd.h>

#include "bench/host/stopwatch.h"
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

constexpr std::size_t page = 4096;

// Nanoseconds from line to line of a chain over `lines` small pages of one huge page, all of it in
// the first-level cache.
double chained(char* huge, std::size_t lines) {
  const auto at = [&](std::size_t i) {
    i = i * 97 % lines;  // no order that could be foreseen
    return reinterpret_cast<void**>(huge + i * page + i % (page / 64) * 64);
  };
  for (std::size_t i = 0; i < lines; ++i) *at(i) = at((i + 1) % lines);
  constexpr int rounds = 50;
  double best = 0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    void** place = at(0);
    const double time = time_of([&] {
      for (std::size_t i = 0; i < rounds * lines; ++i) place = static_cast<void**>(*place);
      keep(place);
    });
    if (attempt == 0 || time < best) best = time;
  }
  return best / static_cast<double>(rounds * lines);
}

// A virtual machine's host may map what the guest has as a huge page in small ones. Then the
// processor translates addresses page by page as it does without any.
std::string mapping_of_huge_pages(char* memory) {
  constexpr std::size_t huge = 2 << 20;
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  char* const first = memory + (huge - begin % huge) % huge;
  const double few = chained(first, 32);
  const double many = chained(first, 256);  // more than any first-level cache of translations has
  char text[160];
  std::snprintf(text, sizeof text,
                "; %s: from line to line on 32 and on 256 pages of one %.1f and %.1f ns",
                many > 1.5 * few ? "translated in small pieces" : "translated as one", few, many);
  return text;
}

std::string huge_pages() {
  constexpr std::size_t megabytes = 64;
  const std::uint64_t before = huge_kilobytes();
  detail::stable_array<char> memory;
  if (!memory.reserve(megabytes << 20)) return "unknown: no memory";
  for (std::size_t i = 0; i < megabytes << 20; i += page) memory[i] = 1;
  const std::uint64_t granted = (huge_kilobytes() - before) >> 10;
  return std::to_string(granted) + " of " + std::to_string(megabytes) +
         " MiB granted (transparent_hugepage: " +
         first_line("/sys/kernel/mm/transparent_hugepage/enabled") + ")" +
         (granted == megabytes ? mapping_of_huge_pages(memory.data()) : "");
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
