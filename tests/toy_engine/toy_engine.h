// A serving engine around the toy model: continuous batching, paged attention over an executor's
// memory, chunked prefill, speculative decoding, forks, truncation, preemption, failing plans.
// Every logits row that it computes or finds cached is compared bit for bit with the reference.
//
// `Memory` is an executor seen by the engine:
//     status run(const step_plan&, std::span<logits_row> rows);       done when it returns
//     void read(plane, block, inner, tokens, std::span<float>);      first tokens of a run
//     void write(plane, block, inner, token, std::span<const float>);
//     void fail_next();                                              the next operation fails
// Planes are K and V of layer 0, K and V of layer 1; fp32.
#pragma once

#include <cstring>
#include <deque>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "radixkv/layout.h"
#include "tests/toy_engine/toy_model.h"

namespace radixkv::toy {

struct engine_options {
  std::size_t running = 6;      // most requests in a batch
  std::size_t requests = 400;   // to be finished
  std::size_t max_tokens = 72;  // a longer conversation ends
  std::uint64_t seed = 1;
  bool failures = false;
};

// What happened; a test asserts that it did.
struct engine_counts {
  std::size_t finished = 0, forks = 0, truncations = 0, preempted = 0, refused = 0, failures = 0;
  std::size_t computed = 0, drafts_accepted = 0, drafts_rejected = 0, loaded_rows = 0, chunks = 0;
};

template <typename Memory>
class engine {
 public:
  engine(kv_cache& cache, Memory& memory, const memory_layout& layout,
         const engine_options& options)
      : cache_(cache), memory_(memory), layout_(layout), options_(options), random_(options.seed) {
    for (auto& prompt : system_prompts_) prompt = random_tokens(9 + below(15));
  }

  // Serves until enough requests are finished. Stops early on a fatal failure.
  void serve() {
    for (std::size_t step = 0; counts_.finished < options_.requests; ++step) {
      ASSERT_LT(step, options_.requests * 1000) << "no progress";
      serve_step();
      if (::testing::Test::HasFatalFailure()) return;
      if (step % 8 != 0) continue;
      ASSERT_EQ(cache_.check_invariants(), "") << "step " << step;
    }
    running_.clear();
    ASSERT_EQ(cache_.check_invariants(), "");
  }
  [[nodiscard]] const engine_counts& counts() const { return counts_; }

 private:
  struct request {
    std::string name_space;
    std::vector<token_id> tokens;
    std::size_t left = 0;  // tokens to generate
    bool store_logits = false;
    bool row_loaded = false;
    std::vector<token_id> drafts;
    sampler sampling;
    reference plain;
    sequence seq;
  };

  std::size_t below(std::size_t n) { return random_() % n; }
  bool chance(std::size_t percent) { return below(100) < percent; }
  std::vector<token_id> random_tokens(std::size_t n) {
    std::vector<token_id> t(n);
    for (token_id& x : t) x = static_cast<token_id>(below(vocabulary));
    return t;
  }

  // A new conversation, or the next turn of one that is over.
  void arrive(request* previous = nullptr) {
    request r;
    if (!recent_.empty() && chance(25)) {  // the very same prompt once more
      const auto& [name_space, tokens] = recent_[below(recent_.size())];
      r.name_space = name_space;
      r.tokens = tokens;
    } else if (previous != nullptr && previous->tokens.size() + 12 < options_.max_tokens) {
      r.tokens = previous->tokens;
      r.name_space = previous->name_space;
      if (chance(20)) {  // sent again, perhaps cut inside a block
        r.tokens.resize(1 + below(r.tokens.size()));
      } else {
        const auto more = random_tokens(1 + below(6));
        r.tokens.insert(r.tokens.end(), more.begin(), more.end());
      }
    } else {
      r.tokens = system_prompts_[below(system_prompts_.size())];
      if (chance(40)) r.tokens.resize(1 + below(r.tokens.size()));
      if (chance(60)) {
        const auto more = random_tokens(1 + below(5));
        r.tokens.insert(r.tokens.end(), more.begin(), more.end());
      }
      r.name_space = chance(25) ? "tenant" : "";
    }
    r.left = 1 + below(10);
    r.sampling = {chance(50), random_()};
    recent_.emplace_back(r.name_space, r.tokens);
    if (recent_.size() > 4) recent_.pop_front();
    waiting_.push_back(std::move(r));
  }

  void requeue(std::size_t index) {
    request r = std::move(running_[index]);
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(index));
    r.seq.release();
    waiting_.push_back(std::move(r));
  }

  void admit() {
    while (waiting_.size() < 3) arrive();
    while (running_.size() < options_.running && !waiting_.empty()) {
      request& r = waiting_.front();
      auto opened = cache_.open(r.tokens, r.name_space, plan_);
      if (!opened) {
        ASSERT_EQ(opened.error().code, errc::out_of_blocks) << opened.error().message;
        ASSERT_FALSE(running_.empty())
            << "nothing runs and nothing fits: " << opened.error().message;
        ++counts_.refused;
        return;
      }
      r.seq = std::move(*opened);
      r.row_loaded = false;
      r.store_logits = chance(60);
      running_.push_back(std::move(r));
      waiting_.pop_front();
    }
  }

  // Makes room for one token and some drafts each; whoever finds none waits again.
  void make_room() {
    for (std::size_t i = 0; i < running_.size();) {
      request& r = running_[i];
      r.drafts.clear();
      if (chance(30)) {
        r.drafts = random_tokens(1 + below(4));
        if (chance(70)) guess(r);
      }
      const status room = r.seq.reserve(1 + static_cast<std::int64_t>(r.drafts.size()), plan_);
      if (room.ok()) {
        ++i;
        continue;
      }
      ASSERT_EQ(room.error().code, errc::out_of_blocks) << room.error().message;
      ++counts_.preempted;
      requeue(i);
    }
    for (std::size_t i = 0; i < running_.size(); ++i) {
      request& r = running_[i];
      if (r.seq.cached_logits() == no_slot) continue;
      ASSERT_TRUE(r.seq.load_logits(static_cast<std::int32_t>(i), plan_).ok());
      r.row_loaded = true;
      ++counts_.loaded_rows;
    }
  }

  // Drafts that are right, but for the last one at times.
  void guess(request& r) {
    std::vector<token_id> all = r.tokens;
    for (token_id& d : r.drafts) {
      r.plain.extend(model_, all);
      d = r.sampling.pick(r.plain.logits(all.size() - 1), all.size());
      all.push_back(d);
    }
    if (chance(50)) r.drafts.back() = static_cast<token_id>(below(vocabulary));
    r.plain.truncate(r.tokens.size());
  }

  // True if the plan ran. If not, everything starts over: what failed must not be served.
  bool run(step_plan& plan) {
    if (options_.failures && !plan.empty() && chance(4)) memory_.fail_next();
    rows_.resize(options_.running * 3);
    const status ran = memory_.run(plan, rows_);
    if (!ran.ok()) {
      ++counts_.failures;
      cache_.report_failure(plan);
      for (request& r : running_) check_unpublishable(r);
      while (!running_.empty()) requeue(0);
    }
    plan.clear();
    return ran.ok();
  }

  // A sequence whose plan failed says so, and the others may go on: either is sound.
  static void check_unpublishable(request& r) {
    const auto done = r.seq.commit(r.seq.committed_tokens());
    if (!done.ok()) {
      EXPECT_EQ(done.error().code, errc::released) << done.error().message;
    }
  }

  void serve_step() {
    admit();
    if (::testing::Test::HasFatalFailure()) return;
    make_room();
    if (::testing::Test::HasFatalFailure()) return;
    if (!run(plan_)) return;
    for (std::size_t i = 0; i < running_.size(); ++i) {
      pass(running_[i], static_cast<std::int32_t>(i));
      if (::testing::Test::HasFatalFailure()) return;
    }
    if (!run(after_)) return;
    const std::size_t batch = running_.size();
    for (std::size_t i = 0; i < batch; ++i) change(i);
    finish();
  }

  // Logits of every token from filled_tokens() on; then drafts are checked and one token is
  // sampled.
  void pass(request& r, std::int32_t row) {
    const auto filled = static_cast<std::size_t>(r.seq.filled_tokens());
    const std::size_t known = r.tokens.size();
    ASSERT_EQ(r.seq.tokens(), static_cast<std::int64_t>(known));
    check_tokens(r);
    std::size_t end = known + r.drafts.size();
    const bool chunk = known - filled > 4 && chance(30);
    if (chunk) end = filled + 1 + below(known - filled - 1);

    std::vector<token_id> all = r.tokens;
    all.insert(all.end(), r.drafts.begin(), r.drafts.end());
    r.plain.extend(model_, all);
    kv_context context = gather(r.seq, filled);
    std::vector<logits_row> logits(all.size());
    for (std::size_t p = filled; p < end; ++p) {
      logits[p] = model_.forward(all[p], context);
      scatter(r.seq, p, context);
      ++counts_.computed;
      expect_same(logits[p], r.plain.logits(p), "computed", p);
    }
    if (chunk) {
      ++counts_.chunks;
      ASSERT_TRUE(r.seq.mark_filled(static_cast<std::int64_t>(end)).ok());
      r.plain.truncate(known);
      return;
    }
    if (filled == known) {  // the whole prompt and its logits were cached
      ASSERT_TRUE(r.row_loaded);
      logits[known - 1] = rows_[static_cast<std::size_t>(row)];
      expect_same(logits[known - 1], r.plain.logits(known - 1), "cached", known - 1);
    }
    r.row_loaded = false;
    if (r.store_logits) {
      r.store_logits = false;
      const auto n = static_cast<std::int64_t>(known);
      ASSERT_TRUE(r.seq.mark_filled(n).ok());
      rows_[static_cast<std::size_t>(row)] = logits[known - 1];
      const auto done = r.seq.commit_logits(n, row, after_);
      ASSERT_TRUE(done.ok()) << done.error().message;
    }
    accept(r, logits);
  }

  void accept(request& r, const std::vector<logits_row>& logits) {
    std::vector<token_id> accepted;
    std::size_t position = r.tokens.size() - 1;
    for (std::size_t d = 0;; ++d, ++position) {
      accepted.push_back(r.sampling.pick(logits[position], position + 1));
      const token_id expected = r.sampling.pick(r.plain.logits(position), position + 1);
      ASSERT_EQ(accepted.back(), expected);
      if (d == r.drafts.size() || accepted.back() != r.drafts[d]) {
        counts_.drafts_accepted += d;
        counts_.drafts_rejected += r.drafts.size() - d;
        break;
      }
    }
    r.tokens.insert(r.tokens.end(), accepted.begin(), accepted.end());
    r.plain.truncate(r.tokens.size() - 1);
    const status taken = r.seq.accept(accepted);
    ASSERT_TRUE(taken.ok()) << taken.error().message;
    r.left -= std::min(r.left, accepted.size());
  }

  // What users and schedulers do between two passes.
  void change(std::size_t index) {
    request& r = running_[index];
    if (chance(25)) {
      const auto done = r.seq.commit();
      ASSERT_TRUE(done.ok()) << done.error().message;
    }
    if (chance(12) && running_.size() < options_.running * 2) {
      auto child = r.seq.fork();
      ASSERT_TRUE(child.ok()) << child.error().message;
      ++counts_.forks;
      request f;
      f.name_space = r.name_space;
      f.tokens = r.tokens;
      f.left = 1 + below(6);
      f.sampling = {false, random_()};
      f.plain = r.plain;
      f.seq = std::move(*child);
      running_.push_back(std::move(f));  // r is gone from here on
    } else if (chance(12)) {
      const auto least =
          static_cast<std::size_t>(std::max<std::int64_t>(1, r.seq.committed_tokens()));
      if (least >= r.tokens.size()) return;
      const std::size_t n = least + below(r.tokens.size() - least);
      ASSERT_TRUE(r.seq.truncate(static_cast<std::int64_t>(n)).ok());
      ++counts_.truncations;
      r.tokens.resize(n);
      r.plain.truncate(n);
      const auto more = random_tokens(1 + below(3));
      const status added = r.seq.append(more, plan_);
      r.tokens.insert(r.tokens.end(), more.begin(), more.end());
      if (!added.ok()) {
        ASSERT_EQ(added.error().code, errc::out_of_blocks) << added.error().message;
        r.left = 0;  // ends here; its next turn starts from these tokens
      }
    }
  }

  void finish() {
    for (std::size_t i = 0; i < running_.size();) {
      request& r = running_[i];
      if (r.left > 0 && r.tokens.size() < options_.max_tokens) {
        ++i;
        continue;
      }
      if (chance(70)) {
        const auto done = r.seq.commit();
        ASSERT_TRUE(done.ok()) << done.error().message;
      }
      ++counts_.finished;
      arrive(&r);
      running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }

  void check_tokens(const request& r) {
    std::vector<token_id> held(r.tokens.size());
    ASSERT_TRUE(r.seq.read_tokens(0, held).ok());
    ASSERT_EQ(held, r.tokens);
  }

  static void expect_same(const logits_row& a, const logits_row& b, const char* what,
                          std::size_t position) {
    ASSERT_EQ(0, std::memcmp(a.data(), b.data(), sizeof a))
        << what << " logits differ at position " << position;
  }

  // Floats of a token in one run.
  [[nodiscard]] std::size_t floats(std::size_t plane) const {
    return layout_.planes[plane].bytes_per_token / sizeof(float);
  }

  // Keys and values of [0, n), through the block table.
  kv_context gather(const sequence& seq, std::size_t n) {
    kv_context context;
    const std::span<const block_id> table = seq.block_table();
    const std::size_t block_tokens = layout_.block_tokens;
    std::vector<float> run;
    for (std::size_t plane = 0; plane < 2 * layers; ++plane) {
      auto& to = (plane % 2 == 0 ? context.keys : context.values)[plane / 2];
      to.resize(n);
      const std::size_t f = floats(plane);
      for (std::size_t first = 0; first < n; first += block_tokens) {
        const std::size_t tokens = std::min(block_tokens, n - first);
        run.resize(tokens * f);
        for (std::uint32_t head = 0; head < layout_.planes[plane].inner_count; ++head) {
          memory_.read(plane, table[first / block_tokens], head, static_cast<std::uint32_t>(tokens),
                       run);
          for (std::size_t t = 0; t < tokens; ++t) {
            std::memcpy(to[first + t].data() + head * f, run.data() + t * f, f * sizeof(float));
          }
        }
      }
    }
    return context;
  }

  void scatter(const sequence& seq, std::size_t position, const kv_context& context) {
    const std::size_t block_tokens = layout_.block_tokens;
    const block_id block = seq.block_table()[position / block_tokens];
    for (std::size_t plane = 0; plane < 2 * layers; ++plane) {
      const vec& from = (plane % 2 == 0 ? context.keys : context.values)[plane / 2][position];
      const std::size_t f = floats(plane);
      for (std::uint32_t head = 0; head < layout_.planes[plane].inner_count; ++head) {
        memory_.write(plane, block, head, static_cast<std::uint32_t>(position % block_tokens),
                      std::span(from).subspan(head * f, f));
      }
    }
  }

  kv_cache& cache_;
  Memory& memory_;
  memory_layout layout_;
  engine_options options_;
  std::mt19937_64 random_;
  model model_{7};
  std::array<std::vector<token_id>, 3> system_prompts_;
  std::deque<std::pair<std::string, std::vector<token_id>>> recent_;  // prompts
  std::deque<request> waiting_;
  std::vector<request> running_;
  std::vector<logits_row> rows_;
  step_plan plan_, after_;
  engine_counts counts_;
};

}  // namespace radixkv::toy
