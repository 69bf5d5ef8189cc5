// How evicted paths are recognised: the chunk hashes of runs, and the table of their first ones.
#include <algorithm>
#include <new>

#include "csrc/core/eviction/run_history.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

namespace {
// Runs of one parent that may have one hash: whoever knows what the hashes leave out can make many,
// and each costs the others time. Later ones are not recognised once they are evicted.
constexpr std::uint32_t most_of_a_hash = 8;
}  // namespace

run_history::home run_history::home_of(run_id parent, std::uint32_t hash, bool short_hash) const {
  std::uint64_t x = (std::uint64_t{parent} << 32) | hash;
  x = (x + (short_hash ? 1 : 0)) * 0x9e3779b97f4a7c15u;
  return {(x ^ (x >> 32)) & (table_.size() - 1),
          static_cast<std::uint8_t>(std::max<std::uint64_t>(1, x >> 56))};
}

run_id run_history::find_child(run_id parent, std::uint64_t hash) const {
  for (const bool short_hash : {false, true}) {
    const std::uint32_t wanted = short_hash ? short_of(hash) : long_of(hash);
    count_lookups();
    const home at = home_of(parent, wanted, short_hash);
    for (std::size_t s = at.slot; tags_[s] != 0; s = (s + 1) & (table_.size() - 1)) {
      count_entries();
      if (tags_[s] != at.tag) continue;
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

// A child, or what follows children that have no chunk end: all of those lie within one chunk.
run_id run_history::find_descendant(run_id r, std::uint64_t hash) const {
  for (;;) {
    if (const run_id child = find_child(r, hash); child != no_run) return child;
    const run_id next = runs_[r].short_child;
    if (next == no_run) return no_run;
    count_nodes();
    const run& at = runs_[next];
    // It may have been forgotten since, or grown, or be another now; what is cached the cache
    // itself would have found.
    if (at.parent != r || at.blocks == 0 || !is_short(at) || at.cached != 0) return no_run;
    r = next;
  }
}

bool run_history::has_many_like(const run& r) const {
  std::uint32_t alike = 0;
  count_lookups();
  const home at = home_of(r);
  for (std::size_t s = at.slot; tags_[s] != 0 && alike < most_of_a_hash;
       s = (s + 1) & (table_.size() - 1)) {
    count_entries();
    if (tags_[s] != at.tag) continue;
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
  const home at = home_of(runs_[r]);
  std::size_t s = at.slot;
  for (; tags_[s] != 0; s = (s + 1) & (table_.size() - 1)) count_entries();
  table_[s] = r;
  tags_[s] = at.tag;
}

void run_history::table_erase(run_id r) {
  if (chunks(runs_[r]) == 0) return;
  const std::size_t mask = table_.size() - 1;
  std::size_t s = home_of(runs_[r]).slot;
  for (; table_[s] != r; s = (s + 1) & mask) count_entries();
  // Closes the gap by moving up what would not be found across it.
  for (std::size_t next = (s + 1) & mask; tags_[next] != 0; next = (next + 1) & mask) {
    count_entries(4);
    const std::size_t from = home_of(runs_[table_[next]]).slot;
    if (((next - from) & mask) >= ((next - s) & mask)) {
      table_[s] = table_[next];
      tags_[s] = tags_[next];
      s = next;
    }
  }
  table_[s] = no_run;
  tags_[s] = 0;
  --in_table_;
}

void run_history::grow_table() {
  const std::size_t size = 2 * table_.size();
  const std::size_t more = size / 2 * (sizeof(run_id) + 1);
  if (more > allowance_) return;
  mapped_array<run_id> old;
  mapped_array<std::uint8_t> tags;
  if (!old.reserve(size) || !tags.reserve(size)) return;
  old.resize(size, no_run);
  tags.resize(size);
  old.swap(table_);
  tags.swap(tags_);
  allowance_ -= more;
  for (const run_id r : old)
    if (r != no_run) table_place(r);
}

void run_history::compact_hashes(std::size_t room) {
  mapped_array<std::uint16_t> kept;
  const std::size_t before = hashes_.capacity();
  const std::size_t most = before + allowance_ / sizeof(std::uint16_t);
  if (!kept.reserve(std::min(hashes_used_ + hashes_used_ / 4 + room, most))) return;
  for (run& r : runs_) {
    if (r.blocks == 0 || r.hashes == no_hashes) continue;
    const auto moved = static_cast<std::uint32_t>(kept.size());
    kept.append(hashes_.begin() + r.hashes, chunks(r));
    r.hashes = moved;
  }
  hashes_ = std::move(kept);
  spend_on_hashes(before);
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
  if (!hashes_.reserve(std::min(hashes_.size() + hashes_.size() / 4 + n, most))) return false;
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

}  // namespace radixkv::detail
