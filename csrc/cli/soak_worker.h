// One thread of a soak: requests that are announced, opened, decoded, forked, rolled back,
// published, cancelled and failed, with hints of every kind, their bytes kept in mind and compared.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "csrc/cli/kv_memory.h"
#include "csrc/cli/random_source.h"
#include "radixkv/kv_cache.h"

namespace radixkv::cli {

// What the threads share.
struct soak_shared {
  kv_cache& cache;
  kv_memory& memory;
  bool verify;
  std::recursive_mutex engine;        // the order of planning, running and writing
  std::vector<std::uint64_t> logits;  // row of the store → prompt it belongs to; under `engine`
  std::atomic<bool> stop{false};
  std::atomic<bool> no_memory{false};  // of a thread for its own ends
  std::mutex violation_mutex;
  std::string violation;  // the first

  void violated(const std::string& what);
};

inline constexpr const char* soak_spaces[] = {"", "tenant a", "tenant b with a longer name"};

class soak_worker {
 public:
  soak_worker(soak_shared& shared, std::uint64_t seed) : shared_(shared), random_(seed) {}

  // Works until told to stop or something is wrong, then closes what is open.
  void run() noexcept;

  std::int64_t operations = 0;
  std::int64_t faults = 0;
  std::int64_t wrong_bytes = 0;
  std::int64_t checked_bytes = 0;

 private:
  struct request {
    sequence handle;
    std::vector<token_id> tokens;
    std::vector<std::uint64_t> hashes;  // of the path up to each token: the bytes of its KV
    std::size_t space = 0;
  };
  struct waiting {
    announcement handle;
    std::vector<token_id> tokens;
    std::size_t space = 0;
  };

  void step();
  void open();
  void open_batch();
  void adopt(sequence handle, std::vector<token_id> tokens, std::size_t space, bool ran);
  void decode(request& r);
  void extend(request& r);
  void fork(request& r);
  void truncate(request& r);
  void commit(request& r);
  void commit_logits(request& r);
  void match();
  void inspect();
  void flood();
  void close(std::size_t i);

  // soak_hints.cpp
  void hint();
  void hint(request& r);
  void announce();
  void pin();
  void set_quota();
  void weights();

  [[nodiscard]] std::vector<token_id> prompt();
  void lengthen(request& r, std::span<const token_id> more);
  // Runs the plan, or by chance fails it. Under `engine`.
  [[nodiscard]] bool run_plan(const step_plan& plan);
  void write(const request& r, std::int64_t first, std::int64_t end);
  void verify(const request& r, std::int64_t first, std::int64_t end);
  void to_ranges(const request& r, std::int64_t first, std::int64_t end);
  void expect(bool condition, const char* what) {
    if (!condition) shared_.violated(what);
  }
  void expect(const status& s) {
    if (!s) shared_.violated(s.error().message);
  }
  kv_cache& call() {
    ++operations;
    return shared_.cache;
  }
  sequence& call(request& r) {
    ++operations;
    return r.handle;
  }

  soak_shared& shared_;
  random_source random_;
  std::vector<request> open_;
  std::vector<waiting> announced_;
  std::vector<pinned_prefix> pinned_;
  std::vector<token_range> ranges_;
  std::vector<std::byte> bytes_;
};

}  // namespace radixkv::cli
