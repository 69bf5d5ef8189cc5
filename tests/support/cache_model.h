// Drives a cache with operations chosen by a stream of numbers, its plans run on a host executor,
// and checks it against a model that is too simple to be wrong: per token the bytes that its block
// must hold (model_memory), per namespace a trie of what was published (published_prefixes).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "radixkv/kv_cache.h"
#include "tests/support/model_listener.h"
#include "tests/support/model_memory.h"
#include "tests/support/published_prefixes.h"

namespace radixkv::testing {

struct model_counts {
  std::int64_t operations = 0;  // calls of the façade and of sequences that are more than a getter
  std::int64_t opened = 0;
  std::int64_t refused = 0;       // out of blocks
  std::int64_t failed_plans = 0;  // injected
  std::int64_t misuses = 0;       // calls that must be refused
  std::int64_t checked_tokens = 0;
  std::int64_t hints = 0;          // that were taken
  std::int64_t stayed = 0;         // times that a pinned prefix was found where it was
  std::int64_t exact_matches = 0;  // matches compared with the trie
};

enum class model_size : std::uint8_t {
  mixed,  // blocks of up to 32 tokens, pools of up to 220 blocks
  tiny,   // blocks of up to 4 tokens, pools of up to 121 blocks: millions of operations
  wide    // blocks of 4 tokens, pools of up to 2,000: tables grow
};

class cache_model {
 public:
  // `below(n)` gives a number in [0, n), n ≥ 1: a random generator's or a fuzzer's.
  using chooser = std::function<std::uint32_t(std::uint32_t)>;

  // Makes a small cache with random options. `watched`: it has a listener, and tells of pressure.
  explicit cache_model(chooser below, model_size size = model_size::mixed, bool watched = false);
  cache_model(const cache_model&) = delete;
  cache_model& operator=(const cache_model&) = delete;

  // A random operation, or a pass over several requests. Empty, or what was wrong.
  [[nodiscard]] std::string step();
  // Every served or filled token of every open sequence is what it should be, and the cache's own
  // figures agree with the model's. Empty, or what is wrong.
  [[nodiscard]] std::string check_contents();
  // Closes everything: nothing may be left. Empty, or what was left.
  [[nodiscard]] std::string finish();

  [[nodiscard]] kv_cache& cache() noexcept { return cache_; }
  [[nodiscard]] const cache_options& options() const noexcept { return options_; }
  [[nodiscard]] const model_counts& counts() const noexcept { return counts_; }

 private:
  struct open_sequence {
    sequence handle;
    std::vector<token_id> tokens;
    std::vector<std::uint64_t> hashes;  // of the path up to each token
    std::size_t space = 0;
    bool failed = false;  // a plan that fills its blocks was not run
  };
  // What a pass computes once its plan has run: positions of the sequence, or a decode step.
  struct work {
    std::uint64_t id = 0;
    bool decode = false;
    std::vector<token_id> accepted;
  };

  [[nodiscard]] cache_options random_options(bool watched);

  // cache_model.cpp
  [[nodiscard]] std::vector<token_id> prompt();
  [[nodiscard]] std::string check(const open_sequence& s);
  [[nodiscard]] std::string check_figures();
  [[nodiscard]] std::string check_watched(const cache_statistics& s);
  [[nodiscard]] std::string finish_watched();
  [[nodiscard]] bool exact();
  void resynchronise();
  kv_cache& call() {
    ++counts_.operations;
    return cache_;
  }
  sequence& call(open_sequence& s) {
    ++counts_.operations;
    return s.handle;
  }
  [[nodiscard]] open_sequence& any() {
    return open_[below_(static_cast<std::uint32_t>(open_.size()))];
  }
  [[nodiscard]] open_sequence* with_id(std::uint64_t id);
  void lengthen(open_sequence& s, std::span<const token_id> more);

  // cache_model_pass.cpp: what takes a plan
  [[nodiscard]] std::string pass();
  [[nodiscard]] std::string plan_open();
  [[nodiscard]] std::string plan_open_batch();
  [[nodiscard]] std::string plan_growth(open_sequence& s);
  [[nodiscard]] std::string adopt(sequence handle, std::vector<token_id> tokens, std::size_t space,
                                  std::int64_t expected);
  [[nodiscard]] std::string run_plan(const step_plan& plan, bool& ran);
  [[nodiscard]] std::string settle_failure(const step_plan& plan);
  [[nodiscard]] std::string compute(const work& w);

  // cache_model_steps.cpp: everything else
  [[nodiscard]] std::string change(open_sequence& s);
  [[nodiscard]] std::string fork(open_sequence& s);
  [[nodiscard]] std::string commit(open_sequence& s);
  [[nodiscard]] std::string commit_logits(open_sequence& s);
  [[nodiscard]] std::string load_logits(open_sequence& s);
  [[nodiscard]] std::string truncate(open_sequence& s);
  [[nodiscard]] std::string close(open_sequence& s);
  [[nodiscard]] std::string match();
  [[nodiscard]] std::string match_batch();
  [[nodiscard]] std::string check_match(const prefix_match& m, std::span<const block_id> table,
                                        std::span<const token_id> tokens, std::size_t space);
  [[nodiscard]] std::string evict();
  [[nodiscard]] std::string misuse();
  [[nodiscard]] std::string misuse_of_hints(open_sequence& s);

  // cache_model_hints.cpp: what callers say beforehand
  [[nodiscard]] std::string hint();
  [[nodiscard]] std::string hint(open_sequence& s);
  [[nodiscard]] std::string check_pins();
  // Blocks that are free, or will be when the listener has retired them.
  [[nodiscard]] std::int64_t given_up() const {
    const cache_statistics s = cache_.statistics();
    return s.blocks_free + s.blocks_retiring;
  }
  // Whether a request may be refused because blocks have to retire first.
  [[nodiscard]] bool retiring() const { return cache_.statistics().blocks_retiring > 0; }
  // Whether a request of the space may be refused for its quota.
  [[nodiscard]] bool limited(std::size_t space) const { return quota_ && space == quota_space; }

  chooser below_;
  model_size size_;
  std::shared_ptr<model_listener> listener_;  // null: nobody watches
  pressure pressure_ = pressure::none;        // as it was told last
  cache_options options_;
  std::size_t longest_prompt_;
  bool inject_;  // plans may fail
  kv_cache cache_;
  model_memory memory_;
  std::vector<std::vector<token_id>> history_;
  std::vector<open_sequence> open_;
  published_prefixes published_;
  bool exact_ = true;  // nothing was evicted since published_ was all that is cached
  std::int64_t evicted_ = 0;
  std::int64_t passed_ = 0;
  struct pin {
    pinned_prefix handle;
    std::vector<token_id> tokens;
    std::size_t space = 0;
  };
  static constexpr std::size_t quota_space = 2;
  std::vector<pin> pins_;
  std::vector<announcement> announced_;
  bool quota_ = false;
  step_plan plan_;
  std::vector<work> work_;
  std::vector<token_id> read_;
  std::vector<block_id> table_;
  std::vector<std::uint64_t> hashes_;
  model_counts counts_;
};

// Returns from a function of the model, naming the condition and its place.
std::string model_violation(const char* file, int line, const char* what);
#define MODEL_CHECK(condition)                                                \
  do {                                                                        \
    if (!(condition)) return model_violation(__FILE__, __LINE__, #condition); \
  } while (false)
#define MODEL_CALL(operation)                                          \
  do {                                                                 \
    if (std::string wrong = (operation); !wrong.empty()) return wrong; \
  } while (false)

extern const char* const model_spaces[published_prefixes::spaces];

}  // namespace radixkv::testing
