// A case of the host benchmarks: what it is called, what it is held against, and how one run of it
// is measured. docs/benchmarks.md explains the cases.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace radixkv::bench {

// How large the trees are. Figures mean something at full size only.
enum class scale : std::uint8_t { small, full };

struct settings {
  scale size = scale::full;
  std::string trace;  // a recorded trace (JSON lines); empty: generated conversations

  [[nodiscard]] bool small() const noexcept { return size == scale::small; }
};

// What one run found: the case's value, and what it was made of (name with unit, value).
struct sample {
  double value = 0;
  std::vector<std::pair<std::string, double>> parts;
};

// One run over a tree that is already there. Throws benchmark_error when the cache does not do what
// the case takes for granted.
using runner = std::function<sample()>;

struct host_case {
  std::string name;
  std::string unit;
  double limit = 0;           // value ≤ limit is what is to be reached
  std::string compared_with;  // what the value is a ratio to, or what it counts
  std::string through;        // "kv_cache": the public façade; "radix_tree": the index alone
  int runs = 7;
  std::function<runner(const settings&)> prepare;  // builds the trees, untimed
};

class benchmark_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline void require(bool holds, const char* what) {
  if (!holds) throw benchmark_error(what);
}
template <typename Result>
auto value_of(Result&& r) {
  if (!r) throw benchmark_error(r.error().message);
  return std::move(*r);
}

// The cases, a group a file.
void add_match_cases(std::vector<host_case>& cases);
void add_bushy_cases(std::vector<host_case>& cases);
void add_commit_cases(std::vector<host_case>& cases);
void add_evict_cases(std::vector<host_case>& cases);
void add_index_cases(std::vector<host_case>& cases);
void add_memory_cases(std::vector<host_case>& cases);
void add_reader_cases(std::vector<host_case>& cases);
void add_scale_cases(std::vector<host_case>& cases);

}  // namespace radixkv::bench
