#include "bench/host/resident_memory.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace radixkv::bench {

namespace {

// Most of what there is belongs to a sanitizer then, and figures mean nothing.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
constexpr bool sanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||
                           __has_feature(memory_sanitizer);
#else
constexpr bool sanitized = false;
#endif

struct mapping {
  std::uintptr_t begin;
  std::uintptr_t end;
};

// Of memory that this program alone has and may write, in order.
std::vector<mapping> private_mappings() {
  std::vector<mapping> found;
  std::ifstream in("/proc/self/maps");
  for (std::string line; std::getline(in, line);) {
    unsigned long long begin = 0;
    unsigned long long end = 0;
    char rights[5] = {};
    if (std::sscanf(line.c_str(), "%llx-%llx %4s", &begin, &end, rights) != 3) continue;
    if (std::string(rights) != "rw-p") continue;
    found.push_back({static_cast<std::uintptr_t>(begin), static_cast<std::uintptr_t>(end)});
  }
  return found;
}

}  // namespace

void touch_resident_memory() {
  if (sanitized) return;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGE_SIZE));
  constexpr std::size_t most = 1 << 16;  // pages looked at together
  std::vector<unsigned char> resident(most);
  for (const mapping& m : private_mappings()) {
    for (std::uintptr_t at = m.begin; at < m.end;) {
      const std::size_t pages = std::min<std::size_t>(most, (m.end - at) / page);
      if (mincore(reinterpret_cast<void*>(at), pages * page, resident.data()) == 0) {
        for (std::size_t i = 0; i < pages; ++i) {
          if ((resident[i] & 1) != 0) (void)*reinterpret_cast<volatile char*>(at + i * page);
        }
      }
      at += pages * page;
    }
  }
}

}  // namespace radixkv::bench
