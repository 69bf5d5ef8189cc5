// Traffic of index_update per delta (a block added or removed), at 16-token blocks. `steady`: a
// full cache, in which a block goes for every one that comes; `fill` and `drain` are its halves.

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "bench/kernels/bench_memory.h"
#include "bench/kernels/traffic_case.h"
#include "csrc/cuda/index_mirror.h"
#include "kernels/index_update.h"

namespace radixkv::bench {
namespace {

constexpr std::uint32_t block_tokens = 16;
constexpr std::int32_t block_count = 60'000;
constexpr std::size_t path_blocks = 40;

// Paths of blocks that come whole and go from their ends.
class path_cache {
 public:
  explicit path_cache(detail::index_mirror& mirror) : mirror_(mirror) {
    for (std::int32_t b = 0; b < block_count; ++b) free_.push_back(b);
    std::shuffle(free_.begin(), free_.end(), random_);
  }

  bool add_path() {
    std::vector<std::int32_t> path;
    std::int32_t parent = kernels::root_parent(0);
    std::vector<token_id> tokens(block_tokens);
    while (path.size() < path_blocks && !free_.empty()) {
      for (token_id& t : tokens) t = static_cast<token_id>(random_() % 150'000);
      if (!mirror_.add(free_.back(), parent, tokens)) return false;
      parent = free_.back();
      path.push_back(parent);
      free_.pop_back();
    }
    paths_.push_back(std::move(path));
    return true;
  }
  bool drop_path() {
    std::swap(paths_[random_() % paths_.size()], paths_.back());
    for (auto& path = paths_.back(); !path.empty(); path.pop_back()) {
      if (!mirror_.remove(path.back())) return false;
      free_.push_back(path.back());
    }
    paths_.pop_back();
    return true;
  }

 private:
  detail::index_mirror& mirror_;
  std::mt19937_64 random_{5};
  std::vector<std::int32_t> free_;
  std::vector<std::vector<std::int32_t>> paths_;
};

template <class T>
struct uploaded {
  explicit uploaded(const std::vector<T>& host) : memory(std::max<std::size_t>(host.size(), 1)) {
    memory.upload(host.data(), host.size());
  }
  bench_memory<T> memory;
};

traffic_result run(bool adds, bool removes) {
  auto created = detail::index_mirror::create({block_count, block_tokens, 12345});
  if (!created) return {.error = created.error().message};
  detail::index_mirror& mirror = *created;
  path_cache cache(mirror);
  detail::index_delta delta;
  constexpr std::size_t all_paths = block_count / path_blocks;
  constexpr std::size_t changed_paths = 100;
  const std::size_t before = removes ? all_paths : all_paths - changed_paths;
  for (std::size_t i = 0; i < before; ++i) {
    if (!cache.add_path()) return {.error = "setting up failed"};
  }
  mirror.take_delta(delta);
  for (std::size_t i = 0; i < changed_paths; ++i) {
    if (removes && !cache.drop_path()) return {.error = "a block could not be removed"};
    if (adds && !cache.add_path()) return {.error = "a block could not be added"};
  }
  mirror.take_delta(delta);
  if (const std::string broken = mirror.check_invariants(); !broken.empty()) {
    return {.error = broken};
  }

  const std::size_t slots = std::size_t{1} << mirror.log2_slots();
  bench_memory<kernels::block_entry> blocks(slots);
  bench_memory<kernels::group_entry> groups(slots);
  bench_memory<std::uint32_t> tokens(static_cast<std::size_t>(block_count) * block_tokens);
  const uploaded block_slots(delta.block_slots);
  const uploaded block_entries(delta.block_entries);
  const uploaded group_slots(delta.group_slots);
  const uploaded group_entries(delta.group_entries);
  const uploaded token_blocks(delta.token_blocks);
  const uploaded new_tokens(delta.tokens);
  kernels::index_update_arguments a;
  a.table = {blocks.data(), groups.data(), tokens.data(),
             block_count,   block_tokens,  mirror.log2_slots()};
  a.block_slots = block_slots.memory.data();
  a.block_entries = block_entries.memory.data();
  a.block_slot_count = static_cast<std::uint32_t>(delta.block_slots.size());
  a.group_slots = group_slots.memory.data();
  a.group_entries = group_entries.memory.data();
  a.group_slot_count = static_cast<std::uint32_t>(delta.group_slots.size());
  a.token_blocks = token_blocks.memory.data();
  a.tokens = new_tokens.memory.data();
  a.token_block_count = static_cast<std::uint32_t>(delta.token_blocks.size());
  require(kernels::index_update(nullptr, a), "index_update");
  require(cudaDeviceSynchronize(), "index_update");

  const auto written = blocks.download();
  for (std::size_t i = 0; i < delta.block_slots.size(); ++i) {
    const std::uint32_t slot = delta.block_slots[i] & ~kernels::clears_slot;
    if (written[slot].block != delta.block_entries[i].block) {
      return {.error = "slot " + std::to_string(slot) + " was not written"};
    }
  }
  traffic_result result;
  result.deltas = static_cast<double>(delta.changes);
  // Every entry that is not empty and every token is read once; all are written once.
  const auto bytes = [](const std::vector<std::uint32_t>& changed, double entry_bytes) {
    double sum = 0;
    for (const std::uint32_t slot : changed) {
      sum += (slot & kernels::clears_slot) != 0 ? entry_bytes : 2 * entry_bytes;
    }
    return sum;
  };
  result.bytes_minimal = bytes(delta.block_slots, 16) + bytes(delta.group_slots, 32) +
                         8.0 * static_cast<double>(delta.tokens.size());
  return result;
}

const traffic_registrar cases([](std::vector<traffic_case>& all) {
  all.push_back({"index_update", "steady", "index_update_kernel", [] { return run(true, true); }});
  all.push_back({"index_update", "fill", "index_update_kernel", [] { return run(true, false); }});
  all.push_back({"index_update", "drain", "index_update_kernel", [] { return run(false, true); }});
});

}  // namespace
}  // namespace radixkv::bench
