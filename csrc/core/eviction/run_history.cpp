#include "csrc/core/eviction/run_history.h"

#include <algorithm>
#include <cassert>
#include <new>
#include <utility>
#include <vector>

#include "csrc/core/step_count.h"

namespace radixkv::detail {

void run_history::reset(std::uint32_t block_tokens, std::uint32_t chunk_tokens) {
  *this = {};
  per_chunk_ = chunk_tokens / block_tokens;
  if (!runs_.reserve(1) || !table_.reserve(64) || !tags_.reserve(64)) throw std::bad_alloc();
  runs_.push_back({});  // the root: depth 0, no blocks
  table_.resize(64, no_run);
  tags_.resize(64);
}

run_id run_history::follow(run_id r, std::uint32_t& depth, std::uint32_t end,
                           std::span<const std::uint64_t> hashes) const {
  const auto known = static_cast<std::uint32_t>(
      std::min<std::size_t>(hashes.size(), chunk_at(end)));  // chunks of the path
  for (;;) {
    count_nodes();
    const run& at = runs_[r];
    // As far as its chunks agree.
    const std::uint32_t begin = chunk_at(at.first);
    std::uint32_t c = chunk_at(depth);
    const std::uint32_t stop = std::min(begin + chunks(at), known);
    while (c < stop && hashes_[at.hashes + (c - begin)] == short_of(hashes[c])) ++c;
    if (c < stop) {
      depth = std::max(depth, c * per_chunk_);
      return r;
    }
    if (end <= at.end()) {
      // The path ends in it, less than a chunk behind what agreed, if anything did.
      const std::uint32_t agreed = c * per_chunk_;
      if (agreed > depth) depth = end - agreed < per_chunk_ ? end : agreed;
      return r;
    }
    // Behind its end: what agrees in its first chunk proves all before it too.
    const run_id child = c < known ? find_descendant(r, hashes[c]) : no_run;
    if (child == no_run || chunk_at(runs_[child].first) != c) {
      depth = std::max(depth, std::min(c * per_chunk_, at.end()));
      return r;
    }
    depth = runs_[child].first;
    r = child;
  }
}

bool run_history::reserve(std::size_t more, std::size_t spare) noexcept {
  if (has_room(more)) return true;
  // By a quarter: doubling would leave half of the history's bytes empty.
  return runs_.reserve(runs_.size() + more + std::min(runs_.size() / 4, spare));
}

run_id run_history::new_run() {
  if (free_ == no_run) {
    assert(runs_.size() < runs_.capacity());  // room was made
    runs_.push_back({});
    return static_cast<run_id>(runs_.size() - 1);
  }
  const run_id r = free_;
  free_ = std::exchange(runs_[r].parent, no_run);
  --free_count_;
  return r;
}

run_id run_history::split(run_id r, std::uint32_t depth) {
  const run_id u = new_run();
  run& upper = runs_[u];
  run& lower = runs_[r];
  table_erase(r);
  upper = lower;
  const std::uint32_t at = depth - lower.first;
  upper.blocks = at;
  upper.cached = std::min(lower.cached, at);
  upper.children = 1;
  upper.children_ever = 1;
  upper.node = no_node;
  lower.parent = u;
  if (lower.hashes != no_hashes) lower.hashes += chunk_at(depth) - chunk_at(lower.first);
  lower.first = depth;
  lower.blocks -= at;
  lower.cached -= upper.cached;
  upper.tail = lower.tail > lower.blocks ? lower.tail - lower.blocks : 0;
  lower.tail = std::min(lower.tail, lower.blocks);
  upper.short_child = is_short(lower) ? r : no_run;
  if (is_short(upper)) runs_[upper.parent].short_child = u;
  if (chunks(upper) != 0) {
    lower.short_hash = true;
    lower.head_hash = chunks(lower) != 0 ? hashes_[lower.hashes] : 0;
  }
  table_insert(u);
  table_insert(r);
  return u;
}

run_id run_history::add(run_id parent, std::uint32_t blocks,
                        std::span<const std::uint64_t> hashes) {
  const run_id r = new_run();
  run& made = runs_[r];
  made = {};
  made.parent = parent;
  made.first = runs_[parent].end();
  made.blocks = blocks;
  ghost_blocks_ += blocks;
  run& p = runs_[parent];
  ++p.children;
  if (p.children_ever < 255) ++p.children_ever;
  if (is_short(made)) p.short_child = r;
  const std::uint32_t begin = chunk_at(made.first), end = chunk_at(made.end());
  made.hashes = no_hashes;
  if (!room_for_hashes(end - begin)) return r;
  made.hashes = static_cast<std::uint32_t>(hashes_.size());
  // Chunks whose hash the cache did not tell are stored as 0, which hardly ever agrees.
  for (std::uint32_t c = begin; c < end; ++c)
    hashes_.push_back(c < hashes.size() ? short_of(hashes[c]) : std::uint16_t{0});
  hashes_used_ += end - begin;
  if (begin < end) made.head_hash = begin < hashes.size() ? long_of(hashes[begin]) : 0;
  table_insert(r);
  return r;
}

void run_history::extend(run_id r, std::uint32_t blocks) {
  run& at = runs_[r];
  const std::uint32_t before = chunks(at);
  const std::uint32_t after = chunk_at(at.end() + blocks) - chunk_at(at.first);
  if (at.hashes != no_hashes && after > before) {
    if (!room_for_hashes(after)) {
      forget_hashes(r);
    } else {
      if (at.hashes + before != hashes_.size()) {  // something else lies behind it
        const auto moved = static_cast<std::uint32_t>(hashes_.size());
        for (std::uint32_t c = 0; c < before; ++c) hashes_.push_back(hashes_[at.hashes + c]);
        at.hashes = moved;
      }
      hashes_.resize(hashes_.size() + (after - before));  // told by the next request
      hashes_used_ += after - before;
    }
  }
  at.blocks += blocks;
  at.cached += blocks;
  cached_blocks_ += blocks;
  if (before == 0 && at.hashes != no_hashes && after > 0) table_insert(r);
}

void run_history::tell_hashes(run_id r, std::span<const std::uint64_t> hashes) {
  run& at = runs_[r];
  const std::uint32_t begin = chunk_at(at.first), end = begin + chunks(at);
  if (begin == end || hashes_[at.hashes + (end - begin) - 1] != 0) return;
  if (at.head_hash == 0 && begin < hashes.size()) {
    table_erase(r);
    at.head_hash = long_of(hashes[begin]);
    at.short_hash = false;
    table_insert(r);
    if (at.hashes == no_hashes) return;
  }
  for (std::uint32_t c = begin; c < end && c < hashes.size(); ++c)
    hashes_[at.hashes + (c - begin)] = short_of(hashes[c]);
}

run_id run_history::remove(run_id r) {
  run& gone = runs_[r];
  table_erase(r);
  hashes_used_ -= chunks(gone);
  ghost_blocks_ -= gone.blocks;
  const run_id parent = gone.parent;
  --runs_[parent].children;
  gone = {};
  gone.parent = std::exchange(free_, r);
  ++free_count_;
  return parent;
}

void run_history::set_cached(run_id r, std::uint32_t cached) {
  run& at = runs_[r];
  const std::int64_t change = std::int64_t{cached} - at.cached;
  cached_blocks_ += change;
  ghost_blocks_ -= change;
  at.cached = cached;
}

std::size_t run_history::bytes() const {
  return runs_.bytes() + table_.bytes() + tags_.bytes() + hashes_.bytes();
}

std::size_t run_history::used_bytes() const {
  return (runs() + 16) * (sizeof(run) + sizeof(run) / 4 + 4 * (sizeof(run_id) + 1)) +
         (hashes_used_ * 15 / 8 + 5120) * sizeof(std::uint16_t);  // half and 4096 may be gaps
}

std::string run_history::check() const {
  std::vector<std::uint32_t> children(runs_.size());
  std::int64_t cached = 0, ghosts = 0;
  std::size_t hashed = 0, in_table = 0;
  for (run_id r = 1; r < runs_.size(); ++r) {
    const run& at = runs_[r];
    if (at.blocks == 0) continue;
    const std::string name = "run " + std::to_string(r);
    const run& p = runs_[at.parent];
    if (at.first != p.end()) return name + " does not begin where its parent ends";
    if (at.cached > at.blocks || at.tail > at.blocks) return name + " counts too many blocks";
    if (at.cached > 0 && at.parent != root_run && p.cached != p.blocks)
      return name + " is cached, its parent not wholly";
    ++children[at.parent];
    cached += at.cached;
    ghosts += at.blocks - at.cached;
    hashed += chunks(at);
    if (chunks(at) == 0) continue;
    ++in_table;
    std::size_t s = home_of(at).slot;
    while (tags_[s] != 0 && table_[s] != r) s = (s + 1) & (table_.size() - 1);
    if (tags_[s] == 0) return name + " is not where the table looks for it";
  }
  for (run_id r = 0; r < runs_.size(); ++r)
    if (children[r] != runs_[r].children)
      return "run " + std::to_string(r) + " miscounts its children";
  if (cached != cached_blocks_ || ghosts != ghost_blocks_) return "runs miscount blocks";
  for (std::size_t i = 0; i < table_.size(); ++i)
    if (tags_[i] != (table_[i] == no_run ? 0 : home_of(runs_[table_[i]]).tag))
      return "the tag of slot " + std::to_string(i) + " is wrong";
  if (hashed != hashes_used_ || in_table != in_table_) return "runs miscount hashes";
  return {};
}

}  // namespace radixkv::detail
