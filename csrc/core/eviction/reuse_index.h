// Evicts what will bring the fewest hits for the time it takes up; learns online which that is.
//
// The unit is the run (see run_history): a stretch of blocks that the same requests used. Whenever
// a request uses a path, its runs get that turn's features; the last tokens of the path count as a
// run of their own, the tail, since they are rarely used again. As a run ages through the bins of
// the model (one cursor per bin over the log of turns: at most 20 steps in a run's life) the model
// learns that it outlived them, or that it was used; evicted runs go on teaching as ghosts. The
// victim is the run with the smallest key among those whose last cached block is a leaf's.
//
// Ageing goes in batches, which finds the model and the log in the processor's caches; a run that
// is used meanwhile is taught first what the batch would have.
//
// Invariants
// 1. A run that was used since it was made has a log entry, until it has aged out or when there was
//    no memory for it; the entry says what the run's last turn, features and sizes are.
// 2. Every evictable leaf's last run is in the queue; a run in the queue ends what is cached of its
//    path, and its entry says so.
// 3. Ghosts are kept, oldest dropped first, for 8 × capacity (at least ghost_tokens_least). What is
//    remembered takes at most history_bytes_per_token × capacity, by the capacities of all arrays:
//    nothing grows beyond it while there is a ghost to drop. Only the runs of what is cached may,
//    where they alone need more; so do 4 bytes per node of the cache, which are not counted.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "csrc/core/eviction/hazard_model.h"
#include "csrc/core/eviction/key_queue.h"
#include "csrc/core/eviction/key_survey.h"
#include "csrc/core/eviction/lru_guard.h"
#include "csrc/core/eviction/lru_shadow.h"
#include "csrc/core/eviction/node_array.h"
#include "csrc/core/eviction/reuse_index_options.h"
#include "csrc/core/eviction/run_history.h"
#include "csrc/core/eviction/turn_log.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

class reuse_index_policy final : public eviction_policy {
 public:
  explicit reuse_index_policy(reuse_index_options options = {});

  [[nodiscard]] std::string_view name() const noexcept override { return "reuse_index"; }
  [[nodiscard]] std::uint32_t path_hash_tokens(std::uint32_t block_tokens) const noexcept override;
  void attach(const tree_view& tree, std::int64_t capacity_blocks) override;
  [[nodiscard]] bool make_room(node_id limit) noexcept override;
  void on_insert(node_id n) override;
  void on_extend(node_id n, std::uint32_t blocks) override;
  void on_split(node_id upper, node_id lower) override;
  void on_trim(node_id n, std::uint32_t blocks) override;
  void on_remove(node_id n, bool evicted) override;
  void on_pin(node_id n) override { __builtin_prefetch(&ends_[n]); }
  void on_hold(node_id n) override;
  void on_unpin(node_id n) override;
  void on_request(const request_info& request) override;
  [[nodiscard]] victim next_victim() override;
  [[nodiscard]] std::size_t bytes() const noexcept override;
  // What the option bounds (invariant 3).
  [[nodiscard]] std::size_t remembered_bytes() const;
  [[nodiscard]] std::string check() const override;

  [[nodiscard]] policy_statistics statistics() const noexcept override { return statistics_; }
  [[nodiscard]] std::vector<std::byte> save() const override { return model_.save(); }
  status load(std::span<const std::byte> bytes) override;

 private:
  struct place {
    run_id run;
    std::uint32_t depth;
  };
  struct ranking {
    run_id run = no_run;
    run_features features;  // of what would go next of it
    std::uint32_t bin = 0;
  };
  static constexpr std::uint32_t bins = hazard_model::bins;

  [[nodiscard]] run_id& end_of(node_id n) { return ends_[n]; }
  [[nodiscard]] run_id end_of_or_none(node_id n) const {
    return n < ends_.size() ? ends_[n] : no_run;
  }
  // Of 512 tokens, as features count, rounded up.
  [[nodiscard]] std::uint32_t units(std::uint32_t blocks) const {
    return static_cast<std::uint32_t>((std::uint64_t{blocks} * block_tokens_ + 511) / 512);
  }
  // REQUIRES: room for runs_of_adoption().
  place adopt(node_id n, std::span<const std::uint64_t> hashes);
  [[nodiscard]] run_features describe(const request_info& request, const place& known,
                                      const turn_record* last, turn_record& turn) const;
  struct path_hits {
    std::uint32_t lru = 0, promised = 0;  // blocks
  };
  path_hits use_path(run_id deepest, run_features features, bool again);
  void count(const request_info& request, const path_hits& of_path, std::uint64_t noted);
  [[nodiscard]] std::uint32_t promised_from(const run& r, std::uint32_t behind) const;
  void survey_some(std::uint64_t noted);
  void tick();
  void set_limits(std::int64_t capacity_blocks);
  void use(run_id r, const run_features& features, std::uint32_t tail_from, bool again);
  run_id cut(run_id r, std::uint32_t depth);
  run_id uncache(run_id r, std::uint32_t blocks);
  void lead(node_id n, bool soon = false);
  [[nodiscard]] victim tail_of(const run& last) const;
  // Once it has made the room that is being made.
  [[nodiscard]] bool kept_by_lru(const run& r) const;
  void let_go_of_lru();
  run_id pass_by_recency(std::uint64_t most);
  [[nodiscard]] run_id least_recent();
  [[nodiscard]] run_id least_recent_of_all();
  [[nodiscard]] run_id least_beyond();
  void look_again(run_id r);
  void settle_release();
  void teach(const lesson& l);
  void outlived(const log_entry& e, std::uint32_t bin);
  void rank_soon(run_id r, run_features features, std::uint32_t bin);
  void rank_waiting();
  [[nodiscard]] std::uint32_t bin_of(std::uint32_t turn) const;
  void rank(run_id r, float key);
  void unrank(run_id r);
  void note(run_id r, std::uint32_t bin);
  void measure(log_entry& e, const run& r) const;
  void refresh_keys();
  void unnote(run_id r);
  [[nodiscard]] bool is_due(std::uint32_t bin, std::uint32_t turn) const {
    return (turn & (periods_[bin] - 1)) == 0;
  }
  void age(std::uint32_t bin);
  void adopt_orphans();
  // Runs that adopt may make: it cuts two and makes one, and cuts one more for each node that it
  // places.
  [[nodiscard]] std::size_t runs_of_adoption() const { return unplaced_ + 8; }
  [[nodiscard]] bool room_for_runs(std::size_t runs) noexcept;
  [[nodiscard]] bool room_in_log(std::size_t entries) noexcept;
  void close_gaps_in_log() noexcept;
  void wait_for_request(node_id n);
  void drop_old();
  bool drop_oldest(bool from_log);
  [[nodiscard]] std::size_t allowance() const;
  void drop(run_id r);
  [[nodiscard]] std::size_t history_bytes() const;

  reuse_index_options options_;
  const tree_view* tree_ = nullptr;
  std::uint32_t block_tokens_ = 1;
  std::int64_t ghost_limit_ = 0;  // blocks
  std::size_t byte_limit_ = 0;
  run_history runs_;
  key_queue queue_;
  turn_log log_;
  hazard_model model_;
  lru_shadow shadow_;
  lru_guard guard_;
  key_survey survey_;
  policy_statistics statistics_;
  node_array<run_id> ends_;       // by node: the run in which its last block lies
  std::vector<node_id> orphans_;  // leaves let go of that no request has told about
  std::size_t unplaced_ = 0;      // nodes whose end is no_run
  std::uint32_t now_ = 0;         // turn
  std::array<std::uint64_t, bins + 1> cursors_{};  // [b]: first entry that has not reached edge(b)
  std::array<std::uint32_t, bins + 1> edges_{};    // in turns
  std::array<std::uint32_t, bins + 1> periods_{};  // requests between two looks at a bin
  std::uint64_t lessons_ = 0;                      // outlived bins
  std::uint64_t thin_out_ = 0;                     // as many as there are when quantum_ grows
  std::uint32_t quantum_ = 0;                      // tokens for each lesson that is learnt
  std::array<std::array<std::uint32_t, 2>, bins> credits_{};  // towards the next: bodies, tails
  std::array<lesson, 32> waiting_lessons_;
  std::uint32_t lessons_waiting_ = 0;
  std::array<ranking, 32> waiting_runs_;
  std::uint32_t runs_waiting_ = 0;
  std::array<float, bins> tail_keys_{};  // of the model some requests ago
  std::uint64_t surveyed_ = 0;           // first entry that has not been, in this survey
  std::uint32_t survey_stretch_ = 1;     // entries for which one stands
  std::uint64_t survey_draw_ = 0;
  std::uint64_t beyond_ = 0;   // first entry of a turn that LRU would keep
  std::uint64_t oldest_ = 0;   // where eviction by recency looks next
  run_id released_ = no_run;   // may lie before that, unless a request uses it now
  std::uint64_t dropped_ = 0;  // first entry that ghosts are kept for
};

}  // namespace radixkv::detail
