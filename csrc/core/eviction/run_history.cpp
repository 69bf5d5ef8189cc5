#include "csrc/core/eviction/run_history.h"

#include <algorithm>
#include <new>
#include <utility>

#include "csrc/core/step_count.h"

namespace radixkv::detail {

namespace {
// Runs of one parent that may have one hash: whoever knows what the hashes leave out can make many,
// and each costs the others time. Later ones are not recognised once they are evicted.
constexpr std::uint32_t most_of_a_hash = 8;

// What is kept of a chunk's hash: its low bits, the upper ones for a run's first chunk only.
std::uint16_t short_of(std::uint64_t hash) { return static_cast<std::uint16_t>(hash); }
std::uint32_t long_of(std::uint64_t hash) { return static_cast<std::uint32_t>(hash); }
}  // namespace

void run_history::reset(std::uint32_t block_tokens, std::uint32_t chunk_tokens) {
  *this = {};
  per_chunk_ = chunk_tokens / block_tokens;
  runs_.emplace_back();  // the root: depth 0, no blocks
  table_.assign(64, no_run);
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
    // Behind its end: a child that agrees in its first chunk proves the rest of this run too.
    const run_id child = c < known ? find_child(r, hashes[c]) : no_run;
    if (child == no_run || chunk_at(runs_[child].first) != c) {
      depth = std::max(depth, std::min(c * per_chunk_, at.end()));
      return r;
    }
    depth = at.end();
    r = child;
  }
}

bool run_history::reserve(std::size_t more, std::size_t spare) noexcept {
  if (has_room(more)) return true;
  try {
    // By a quarter: doubling would leave half of the history's bytes empty.
    runs_.reserve(runs_.size() + more + std::min(runs_.size() / 4, spare));
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

run_id run_history::new_run() {
  if (free_ == no_run) {
    runs_.emplace_back();
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

// Makes room for n hashes at the end; false if there is none within the allowance.
bool run_history::room_for_hashes(std::size_t n) {
  if (hashes_.size() > hashes_used_ + hashes_used_ / 2 + 4096) compact_hashes(n);
  if (hashes_.size() + n <= hashes_.capacity()) return true;
  const std::size_t before = hashes_.capacity();
  const std::size_t most = before + allowance_ / sizeof(std::uint16_t);
  if (hashes_.size() + n > most) {
    // Often enough to find gaps, not at every run.
    if (hashes_.size() > hashes_used_ + hashes_used_ / 8) compact_hashes(n);
    return hashes_.size() + n <= hashes_.capacity();
  }
  try {
    hashes_.reserve(std::min(hashes_.size() + hashes_.size() / 4 + n, most));
  } catch (const std::bad_alloc&) {
    return false;
  }
  spend_on_hashes(before);
  return true;
}

void run_history::spend_on_hashes(std::size_t capacity_before) {
  const std::size_t before = capacity_before * sizeof(std::uint16_t);
  const std::size_t after = hashes_.capacity() * sizeof(std::uint16_t);
  allowance_ = allowance_ + before > after ? allowance_ + before - after : 0;
}

void run_history::forget_hashes(run_id r) {
  table_erase(r);
  hashes_used_ -= chunks(runs_[r]);
  runs_[r].hashes = no_hashes;
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

std::size_t run_history::slot_of(run_id parent, std::uint32_t hash, bool short_hash) const {
  std::uint64_t x = (std::uint64_t{parent} << 32) | hash;
  x = (x + (short_hash ? 1 : 0)) * 0x9e3779b97f4a7c15u;
  return (x ^ (x >> 32)) & (table_.size() - 1);
}

run_id run_history::find_child(run_id parent, std::uint64_t hash) const {
  for (const bool short_hash : {false, true}) {
    const std::uint32_t wanted = short_hash ? short_of(hash) : long_of(hash);
    count_lookups();
    for (std::size_t s = slot_of(parent, wanted, short_hash); table_[s] != no_run;
         s = (s + 1) & (table_.size() - 1)) {
      count_entries(4);  // its run, a line
      const run& r = runs_[table_[s]];
      // What is cached the cache itself would have found, so it is another path of equal hash.
      if (r.parent == parent && r.head_hash == wanted && r.short_hash == short_hash &&
          r.cached == 0)
        return table_[s];
    }
  }
  return no_run;
}

bool run_history::has_many_like(const run& r) const {
  std::uint32_t alike = 0;
  count_lookups();
  for (std::size_t s = slot_of(r.parent, r.head_hash, r.short_hash);
       table_[s] != no_run && alike < most_of_a_hash; s = (s + 1) & (table_.size() - 1)) {
    count_entries(4);
    const run& other = runs_[table_[s]];
    alike += other.parent == r.parent && other.head_hash == r.head_hash &&
             other.short_hash == r.short_hash;
  }
  return alike == most_of_a_hash;
}

void run_history::table_insert(run_id r) {
  if (chunks(runs_[r]) == 0) return;
  if (2 * (in_table_ + 1) > table_.size()) grow_table();
  // Without memory for a larger one, nearly full is slow, and quite full nothing more goes in.
  if (8 * (in_table_ + 1) > 7 * table_.size() || has_many_like(runs_[r])) {
    hashes_used_ -= chunks(runs_[r]);
    runs_[r].hashes = no_hashes;
    return;
  }
  table_place(r);
  ++in_table_;
}

void run_history::table_place(run_id r) {
  std::size_t s = slot_of(runs_[r].parent, runs_[r].head_hash, runs_[r].short_hash);
  for (; table_[s] != no_run; s = (s + 1) & (table_.size() - 1)) count_entries();
  table_[s] = r;
}

void run_history::table_erase(run_id r) {
  if (chunks(runs_[r]) == 0) return;
  const std::size_t mask = table_.size() - 1;
  std::size_t s = slot_of(runs_[r].parent, runs_[r].head_hash, runs_[r].short_hash);
  for (; table_[s] != r; s = (s + 1) & mask) count_entries();
  // Closes the gap by moving up what would not be found across it.
  for (std::size_t next = (s + 1) & mask; table_[next] != no_run; next = (next + 1) & mask) {
    count_entries(4);
    const run& n = runs_[table_[next]];
    const std::size_t home = slot_of(n.parent, n.head_hash, n.short_hash);
    if (((next - home) & mask) >= ((next - s) & mask)) {
      table_[s] = table_[next];
      s = next;
    }
  }
  table_[s] = no_run;
  --in_table_;
}

void run_history::grow_table() {
  const std::size_t more = table_.size() * sizeof(run_id);
  if (more > allowance_) return;
  std::vector<run_id> old;
  try {
    old.assign(2 * table_.size(), no_run);
  } catch (const std::bad_alloc&) {
    return;
  }
  old.swap(table_);
  allowance_ -= more;
  for (const run_id r : old)
    if (r != no_run) table_place(r);
}

void run_history::compact_hashes(std::size_t room) {
  std::vector<std::uint16_t> kept;
  const std::size_t before = hashes_.capacity();
  const std::size_t most = before + allowance_ / sizeof(std::uint16_t);
  try {
    kept.reserve(std::min(hashes_used_ + hashes_used_ / 4 + room, most));
  } catch (const std::bad_alloc&) {
    return;
  }
  for (run& r : runs_) {
    if (r.blocks == 0 || r.hashes == no_hashes) continue;
    const auto moved = static_cast<std::uint32_t>(kept.size());
    kept.insert(kept.end(), hashes_.begin() + r.hashes, hashes_.begin() + r.hashes + chunks(r));
    r.hashes = moved;
  }
  hashes_ = std::move(kept);
  spend_on_hashes(before);
}

std::size_t run_history::bytes() const {
  return runs_.capacity() * sizeof(run) + table_.capacity() * sizeof(run_id) +
         hashes_.capacity() * sizeof(std::uint16_t);
}

std::size_t run_history::used_bytes() const {
  return (runs() + 16) * (sizeof(run) + sizeof(run) / 4 + 4 * sizeof(run_id)) +
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
    in_table += (chunks(at) != 0);
    if (chunks(at) != 0 && std::find(table_.begin(), table_.end(), r) == table_.end())
      return name + " is not in the table";
  }
  for (run_id r = 0; r < runs_.size(); ++r)
    if (children[r] != runs_[r].children)
      return "run " + std::to_string(r) + " miscounts its children";
  if (cached != cached_blocks_ || ghosts != ghost_blocks_) return "runs miscount blocks";
  if (hashed != hashes_used_ || in_table != in_table_) return "runs miscount hashes";
  return {};
}

}  // namespace radixkv::detail
