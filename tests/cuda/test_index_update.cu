// Device tables that follow the mirror: what the slots hold, two tables by turns, bad writes.

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

#include "tests/support/device_index.h"

namespace radixkv::testing {
namespace {

// Whether a slot is as in a table that never held anything.
template <class Entry>
bool is_cleared(const Entry& entry) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(&entry);
  return std::all_of(bytes, bytes + sizeof entry, [](unsigned char b) { return b == 0xff; });
}

// Random adds (deeper, beside, anew) and removals of leaves on the mirror and on a plain model.
class random_changes {
 public:
  random_changes(std::int32_t block_count, std::uint32_t block_tokens, std::uint32_t hash_bits)
      : block_count_(block_count),
        block_tokens_(block_tokens),
        mirror_(std::move(
            detail::index_mirror::create({block_count, block_tokens, 9, hash_bits}).value())),
        parents_(static_cast<std::size_t>(block_count), no_block),
        children_(parents_.size(), 0),
        tokens_(parents_.size()) {
    for (std::int32_t b = 0; b < block_count; ++b) free_.push_back(b);
  }

  void step() {
    if (!free_.empty() && (used_.empty() || random_() % 100 < 55)) {
      const std::size_t at = random_() % free_.size();
      const std::int32_t block = free_[at];
      std::swap(free_[at], free_.back());
      free_.pop_back();
      const std::int32_t parent =
          used_.empty() || random_() % 10 == 0
              ? kernels::root_parent(static_cast<std::int32_t>(random_() % 3))
              : used_[random_() % used_.size()];
      const auto b = static_cast<std::size_t>(block);
      tokens_[b] = random_tokens(random_, block_tokens_);
      ASSERT_TRUE(mirror_.add(block, parent, tokens_[b]).ok());
      parents_[b] = parent;
      if (parent >= 0) ++children_[static_cast<std::size_t>(parent)];
      used_.push_back(block);
    } else {
      const std::size_t at = random_() % used_.size();
      const std::int32_t block = used_[at];
      const auto b = static_cast<std::size_t>(block);
      if (children_[b] != 0) {
        ASSERT_EQ(mirror_.remove(block).error().code, errc::invalid_argument);
        return;
      }
      ASSERT_TRUE(mirror_.remove(block).ok());
      if (parents_[b] >= 0) --children_[static_cast<std::size_t>(parents_[b])];
      std::swap(used_[at], used_.back());
      used_.pop_back();
      free_.push_back(block);
    }
  }

  // Whether a device table holds exactly this, findable by probing.
  void expect_equal(const device_table& table) {
    const auto slots = table.blocks();
    std::size_t found = 0;
    for (const kernels::block_entry& entry : slots) {
      if (entry.block < 0) {
        ASSERT_TRUE(is_cleared(entry));
        continue;
      }
      ++found;
      ASSERT_EQ(entry.parent, parents_[static_cast<std::size_t>(entry.block)]);
      ASSERT_EQ(entry.key, key_of(entry.block));
      for (std::size_t s = kernels::home_slot(entry.key, mirror_.log2_slots());
           slots[s].block != entry.block; s = (s + 1) % slots.size()) {
        ASSERT_GE(slots[s].block, 0) << "an empty slot before block " << entry.block;
      }
    }
    ASSERT_EQ(found, used_.size());
    const auto kept = device_tokens(table);
    std::size_t groups = 0;
    for (const std::int32_t block : used_) {
      const auto b = static_cast<std::size_t>(block);
      ASSERT_TRUE(std::equal(tokens_[b].begin(), tokens_[b].end(),
                             kept.begin() + static_cast<std::ptrdiff_t>(b * block_tokens_)));
      if (path_of(block).size() % kernels::group_blocks == 0) ++groups;
    }
    const auto group_slots = table.groups();
    for (const kernels::group_entry& entry : group_slots) {
      if (entry.blocks[0] < 0) {
        ASSERT_TRUE(is_cleared(entry));
        continue;
      }
      --groups;
      const auto path = path_of(entry.blocks[3]);
      ASSERT_EQ(entry.key, key_of(entry.blocks[3]));
      for (std::size_t i = 0; i < 4; ++i) ASSERT_EQ(entry.blocks[i], path[path.size() - 4 + i]);
      ASSERT_EQ(entry.parent, parents_[static_cast<std::size_t>(entry.blocks[0])]);
    }
    ASSERT_EQ(groups, 0u);
  }

  detail::index_mirror& mirror() { return mirror_; }

 private:
  std::vector<std::int32_t> path_of(std::int32_t block) const {
    std::vector<std::int32_t> path;
    for (; block >= 0; block = parents_[static_cast<std::size_t>(block)]) path.push_back(block);
    std::reverse(path.begin(), path.end());
    return path;
  }
  // From the path's tokens at once, not block by block.
  std::uint64_t key_of(std::int32_t block) const {
    std::vector<std::uint32_t> all;
    const auto path = path_of(block);
    for (const std::int32_t b : path) {
      const auto& t = tokens_[static_cast<std::size_t>(b)];
      all.insert(all.end(), t.begin(), t.end());
    }
    const auto& key = mirror_.hash_key();
    const std::int32_t root = parents_[static_cast<std::size_t>(path[0])];
    std::uint64_t sum = kernels::root_sum(key, -1 - root);
    const std::size_t unit = std::min<std::size_t>(16, block_tokens_);
    for (std::size_t u = 0; u * unit < all.size(); ++u) {
      std::uint64_t low = 0, high = 0;
      for (std::size_t i = 0; i < unit; ++i) {
        low += std::uint64_t{all[u * unit + i]} * key.multipliers[i].low;
        high += std::uint64_t{all[u * unit + i]} * key.multipliers[i].high;
      }
      sum += kernels::mix(key, low + (high << 32 | high >> 32) + u * key.step);
    }
    return sum & kernels::hash_sum_mask & key.mask;
  }
  std::vector<std::uint32_t> device_tokens(const device_table& table) const {
    std::vector<std::uint32_t> all(static_cast<std::size_t>(block_count_) * block_tokens_);
    require_cuda(
        cudaMemcpy(all.data(), table.view().tokens, all.size() * 4, cudaMemcpyDeviceToHost));
    return all;
  }

  std::int32_t block_count_;
  std::uint32_t block_tokens_;
  detail::index_mirror mirror_;
  std::mt19937_64 random_{11};
  std::vector<std::int32_t> parents_;
  std::vector<int> children_;
  std::vector<std::vector<std::uint32_t>> tokens_;
  std::vector<std::int32_t> free_;
  std::vector<std::int32_t> used_;
};

TEST(index_update, a_table_follows_the_mirror) {
  const test_stream stream;
  for (const std::uint32_t block_tokens : {1, 2, 4, 16, 64}) {
    for (const std::uint32_t hash_bits : {5u, 62u}) {
      random_changes changes(300, block_tokens, hash_bits);
      device_table table(300, block_tokens);
      for (int round = 0; round < 6; ++round) {
        for (int i = 0; i < 200; ++i) changes.step();
        ASSERT_EQ(changes.mirror().check_invariants(), "");
        detail::index_delta delta;
        changes.mirror().take_delta(delta);
        table.apply(delta, stream);
        if (round % 2) table.apply(delta, stream);  // does no harm
        changes.expect_equal(table);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(index_update, two_tables_by_turns) {
  const test_stream stream;
  random_changes changes(400, 16, 62);
  device_table tables[2] = {{400, 16}, {400, 16}};
  detail::index_delta before, delta;
  for (int round = 0; round < 8; ++round) {
    for (int i = 0; i < 100; ++i) changes.step();
    changes.mirror().take_delta(delta);
    device_table& back = tables[round % 2];
    back.apply(before, stream);
    back.apply(delta, stream);
    changes.expect_equal(back);
    if (HasFatalFailure()) return;
    std::swap(before, delta);
  }
}

TEST(index_update, skips_and_counts_what_is_out_of_range) {
  const test_stream stream;
  device_table table(10, 16);
  device_array<std::uint32_t> rejected(std::vector<std::uint32_t>{0});
  detail::index_delta delta;
  delta.block_slots = {63, 64, 0xffffffff};
  delta.block_entries = {{1, 2, 3}, {1, 2, 3}, {1, 2, 3}};
  delta.group_slots = {64};
  delta.group_entries = {{1, 2, {3, 4, 5, 6}, 0}};
  delta.token_blocks = {-1, 10, 0};
  delta.tokens.assign(48, 7);
  table.apply(delta, stream, rejected.data());
  EXPECT_EQ(rejected.download()[0], 5u);
  EXPECT_EQ(table.blocks()[63].block, 2);
  // Blocks of fewer than 16 bytes are written token by token.
  device_table small(10, 2);
  detail::index_delta tokens;
  tokens.token_blocks = {10, 9, -1};
  tokens.tokens.assign(6, 7);
  small.apply(tokens, stream, rejected.data());
  EXPECT_EQ(rejected.download()[0], 7u);
}

TEST(index_update, refuses_bad_arguments) {
  const test_stream stream;
  device_table table(10, 16);
  const device_array<std::uint32_t> slots(4);
  kernels::index_update_arguments a;
  a.table = table.view();
  EXPECT_EQ(cudaSuccess, kernels::index_update(stream, a));
  a.block_slot_count = 1;
  EXPECT_EQ(cudaErrorInvalidValue, kernels::index_update(stream, a));
  a.block_slots = slots.data();
  a.block_entries = reinterpret_cast<const kernels::block_entry*>(slots.data() + 1);
  EXPECT_EQ(cudaErrorMisalignedAddress, kernels::index_update(stream, a));
  a.block_slot_count = 0;
  a.block_entries = nullptr;
  const device_array<std::int32_t> blocks(1);
  a.token_block_count = 1;
  a.token_blocks = blocks.data();
  a.tokens = slots.data() + 1;  // read 16 bytes at a time where blocks have as many
  EXPECT_EQ(cudaErrorMisalignedAddress, kernels::index_update(stream, a));
  a.token_block_count = 0;
  a.tokens = nullptr;
  a.table.block_tokens = 3;
  EXPECT_EQ(cudaErrorInvalidValue, kernels::index_update(stream, a));
}

}  // namespace
}  // namespace radixkv::testing
