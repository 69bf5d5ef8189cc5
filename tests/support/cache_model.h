// Drives a cache with operations chosen by a stream of numbers, and checks it against a model that
// is too simple to be wrong: what a block holds is, per token, a hash of all tokens up to it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "radixkv/kv_cache.h"

namespace radixkv::testing {

struct model_counts {
  std::int64_t operations = 0;
  std::int64_t opened = 0;
  std::int64_t refused = 0;  // out of blocks
  std::int64_t checked_tokens = 0;
};

class cache_model {
 public:
  // `below(n)` gives a number in [0, n), n ≥ 1: a random generator's or a fuzzer's.
  using chooser = std::function<std::uint32_t(std::uint32_t)>;

  // Makes a small cache with random options.
  explicit cache_model(chooser below);

  // One random operation. Empty, or what was wrong.
  [[nodiscard]] std::string step();
  // Every served or filled token of every open sequence is what it should be. Empty, or what is
  // wrong.
  [[nodiscard]] std::string check_contents();
  // Closes everything: nothing may be left. Empty, or what was left.
  [[nodiscard]] std::string finish();

  [[nodiscard]] kv_cache& cache() noexcept { return *cache_; }
  [[nodiscard]] const model_counts& counts() const noexcept { return counts_; }

 private:
  struct open_sequence {
    sequence handle;
    std::vector<token_id> tokens;
    bool second_namespace = false;
  };

  [[nodiscard]] std::vector<token_id> prompt();
  [[nodiscard]] std::uint64_t fold(std::uint64_t h, token_id t) const noexcept;
  [[nodiscard]] std::string open();
  [[nodiscard]] std::string open_batch();
  [[nodiscard]] std::string adopt(sequence handle, std::vector<token_id> tokens, bool second);
  [[nodiscard]] std::string change(open_sequence& s);
  [[nodiscard]] std::string grow(open_sequence& s);
  [[nodiscard]] std::string decode(open_sequence& s);
  [[nodiscard]] std::string commit(open_sequence& s);
  [[nodiscard]] std::string commit_logits(open_sequence& s);
  [[nodiscard]] std::string truncate(open_sequence& s);
  void run(step_plan& plan);
  // Writes [from, to) of the sequence's contents, as a forward pass does.
  void compute(const open_sequence& s, std::int64_t from, std::int64_t to);
  [[nodiscard]] std::string check(const open_sequence& s);

  chooser below_;
  cache_options options_;
  std::vector<kv_cache> holder_;
  kv_cache* cache_ = nullptr;
  std::vector<std::vector<token_id>> history_;
  std::vector<open_sequence> open_;
  std::vector<std::vector<std::uint64_t>> memory_;  // block → token → hash of the path
  std::vector<std::uint64_t> logits_;               // row of the store → hash of the prompt
  model_counts counts_;
};

}  // namespace radixkv::testing
