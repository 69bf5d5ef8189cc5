// What a benchmark does with the library's errors: it ends with their message, as nothing was
// measured.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "radixkv/result.h"

namespace radixkv::bench {

[[noreturn]] inline void fail(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::exit(1);
}

inline void require(const status& s) {
  if (!s) fail(s.error().message);
}

template <class T>
T created(result<T> r) {
  if (!r) fail(r.error().message);
  return std::move(*r);
}

}  // namespace radixkv::bench
