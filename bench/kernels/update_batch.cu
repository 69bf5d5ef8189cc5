#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "bench/kernels/bench_result.h"
#include "bench/kernels/update_batch.h"

namespace radixkv::bench {
namespace {

constexpr std::uint32_t block_tokens = 16;
constexpr std::size_t path_blocks = 40;

// Paths of blocks that come whole and go from their ends.
class path_cache {
 public:
  path_cache(detail::index_mirror& mirror, std::int32_t block_count) : mirror_(mirror) {
    for (std::int32_t b = 0; b < block_count; ++b) free_.push_back(b);
    std::shuffle(free_.begin(), free_.end(), random_);
  }

  void add_path() {
    std::vector<std::int32_t> path;
    std::int32_t parent = kernels::root_parent(0);
    std::vector<token_id> tokens(block_tokens);
    while (path.size() < path_blocks && !free_.empty()) {
      for (token_id& t : tokens) t = static_cast<token_id>(random_() % 150'000);
      require(mirror_.add(free_.back(), parent, tokens));
      parent = free_.back();
      path.push_back(parent);
      free_.pop_back();
    }
    paths_.push_back(std::move(path));
  }
  void drop_path() {
    std::swap(paths_[random_() % paths_.size()], paths_.back());
    for (auto& path = paths_.back(); !path.empty(); path.pop_back()) {
      require(mirror_.remove(path.back()));
      free_.push_back(path.back());
    }
    paths_.pop_back();
  }

 private:
  detail::index_mirror& mirror_;
  std::mt19937_64 random_{5};
  std::vector<std::int32_t> free_;
  std::vector<std::vector<std::int32_t>> paths_;
};

}  // namespace

struct host_update {
  explicit host_update(const update_batch& b)
      : batch(b),
        mirror(created(detail::index_mirror::create({b.block_count, block_tokens, 12345}))) {
    path_cache cache(mirror, b.block_count);
    const std::size_t all_paths = static_cast<std::size_t>(b.block_count) / path_blocks;
    const std::size_t before = b.removes ? all_paths : all_paths - b.changed_paths;
    for (std::size_t i = 0; i < before; ++i) cache.add_path();
    mirror.take_delta(delta);
    for (std::size_t i = 0; i < b.changed_paths; ++i) {
      if (b.removes) cache.drop_path();
      if (b.adds) cache.add_path();
    }
    mirror.take_delta(delta);
    if (const std::string broken = mirror.check_invariants(); !broken.empty()) {
      fail(broken);
    }
  }

  const update_batch& batch;
  detail::index_mirror mirror;
  detail::index_delta delta;
};

device_update::device_update(const update_batch& batch) : device_update(host_update(batch)) {}

device_update::device_update(const host_update& host)
    : delta_(host.delta),
      blocks_(std::size_t{1} << host.mirror.log2_slots()),
      groups_(blocks_.size()),
      tokens_(static_cast<std::size_t>(host.batch.block_count) * block_tokens),
      slot_(created(detail::allocate_pinned("the delta", detail::whole_slot_bytes(delta_)))) {
  const kernels::prefix_table table{blocks_.data(), groups_.data(),
                                    tokens_.data(), host.batch.block_count,
                                    block_tokens,   host.mirror.log2_slots()};
  detail::delta_cursor cursor;
  arguments_ =
      detail::fill_chunk(delta_, table, cursor, {slot_.get(), detail::whole_slot_bytes(delta_)});
}

std::string device_update::error() const {
  require(cudaDeviceSynchronize(), "index_update");
  const auto written = blocks_.download();
  for (std::size_t i = 0; i < delta_.block_slots.size(); ++i) {
    const std::uint32_t slot = delta_.block_slots[i] & ~kernels::clears_slot;
    if (written[slot].block != delta_.block_entries[i].block) {
      return "slot " + std::to_string(slot) + " was not written";
    }
  }
  return {};
}

double device_update::bytes_minimal() const {
  return sizeof(kernels::block_entry) * static_cast<double>(delta_.block_slots.size()) +
         sizeof(kernels::group_entry) * static_cast<double>(delta_.group_slots.size()) +
         sizeof(token_id) * static_cast<double>(delta_.tokens.size());
}

}  // namespace radixkv::bench
