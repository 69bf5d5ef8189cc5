// What the model would hit if it alone decided, counted without risk: by the keys of all runs that
// are remembered.
#include <algorithm>
#include <array>

#include "csrc/core/eviction/reuse_index.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

// How many blocks of a path the model would have held from r on, given how many behind r.
std::uint32_t reuse_index_policy::promised_from(const run& r, std::uint32_t behind) const {
  const std::uint32_t bin = bin_of(r.turn);
  if (r.uses == 0 || r.aged_out || bin == bins || !survey_.holds(model_.key(r.features, bin)))
    return 0;
  if (r.tail > 0 && !survey_.holds(tail_keys_[bin])) return r.body();
  return r.blocks + behind;
}

// Counts a part of the log, so that it is passed within some hundred requests: at most 64 entries
// and as many as the request itself has noted. Of a log that is longer than that one entry stands
// for each stretch of equal length, a random one, since what requests note is periodic (stratified
// sampling; Cochran, "Sampling Techniques", 1977). What was used meanwhile may be counted twice,
// which promises less.
void reuse_index_policy::survey_some(std::uint64_t noted) {
  constexpr std::uint64_t parts = 128, least = 16, most = 64;
  std::uint64_t some =
      std::min(log_.size() / parts + least, most) + (noted + survey_stretch_ - 1) / survey_stretch_;
  surveyed_ = std::max(surveyed_, log_.begin());
  std::array<run_features, 4> features;
  std::array<std::uint32_t, 4> at{};
  std::array<run_id, 4> runs;
  std::uint32_t n = 0;
  // Where in a stretch: the upper half of a linear congruential generator (Knuth, TAOCP 2, 3.3.4).
  const auto drawn = [this]() -> std::uint64_t {
    if (survey_stretch_ == 1) return 0;
    survey_draw_ = survey_draw_ * 6364136223846793005u + 1442695040888963407u;
    return ((survey_draw_ >> 32) * survey_stretch_) >> 32;
  };
  const auto add = [&] {
    const std::array<float, 4> keys = model_.keys(features, at);
    for (std::uint32_t i = 0; i < n; ++i) {
      const run& r = runs_[runs[i]];
      survey_.add(keys[i], r.body());
      survey_.add(std::min(keys[i], tail_keys_[at[i]]), r.tail);
    }
    n = 0;
  };
  for (; some > 0 && surveyed_ < log_.end(); --some, surveyed_ += survey_stretch_) {
    count_entries();
    const std::uint64_t at_entry = surveyed_ + drawn();
    if (at_entry >= log_.end()) continue;
    const log_entry& e = log_[at_entry];
    if (e.run == no_run) continue;
    const run& r = runs_[e.run];
    const std::uint32_t bin = bin_of(e.turn);
    if (r.uses == 0 || r.aged_out || bin == bins) continue;
    features[n] = e.features;
    at[n] = bin;
    runs[n] = e.run;
    if (++n == runs.size()) add();
  }
  if (n > 0) add();
  if (surveyed_ < log_.end()) return;
  survey_.finish(survey_stretch_);
  surveyed_ = log_.begin();
  survey_stretch_ = static_cast<std::uint32_t>(1 + log_.size() / (parts * most));
}

}  // namespace radixkv::detail
