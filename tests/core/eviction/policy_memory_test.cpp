// Policies under memory that runs out: nothing throws, every block stays evictable.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/eviction/lru.h"
#include "csrc/core/eviction/reuse_index.h"
#include "radixkv/eviction_policy.h"
#include "tests/core/eviction/random_load.h"
#include "tests/support/alloc_failure.h"

namespace radixkv {
namespace {

using study::hashes_of;
using study::path;
using study::random_paths;
using study::sim_tree;

// Passes every call on, refusing an allocation in some of them: only the policy's own, not those of
// the tree around it.
class short_of_memory final : public eviction_policy {
 public:
  short_of_memory(std::unique_ptr<eviction_policy> policy, std::uint32_t one_in)
      : policy_(std::move(policy)), one_in_(one_in) {}

  template <typename Call>
  auto with_failures(Call&& call) {
    if (random_() % one_in_ != 0) return call();
    testing::alloc_failure failure(static_cast<std::int64_t>(random_() % 2), random_() % 2 == 0);
    struct counts {
      testing::alloc_failure& failure;
      int& refused;
      ~counts() { refused += failure.fired(); }
    } counting{failure, refused};
    return call();
  }

  std::string_view name() const noexcept override { return policy_->name(); }
  std::uint32_t path_hash_tokens(std::uint32_t block_tokens) const noexcept override {
    return policy_->path_hash_tokens(block_tokens);
  }
  void attach(const tree_view& tree, std::int64_t blocks) override {
    policy_->attach(tree, blocks);
  }
  bool make_room(node_id limit) noexcept override {
    return with_failures([&] { return policy_->make_room(limit); });
  }
  void on_insert(node_id n) override {
    with_failures([&] { policy_->on_insert(n); });
  }
  void on_extend(node_id n, std::uint32_t blocks) override {
    with_failures([&] { policy_->on_extend(n, blocks); });
  }
  void on_split(node_id upper, node_id lower) override {
    with_failures([&] { policy_->on_split(upper, lower); });
  }
  void on_trim(node_id n, std::uint32_t blocks) override {
    with_failures([&] { policy_->on_trim(n, blocks); });
  }
  void on_remove(node_id n, bool evicted) override {
    with_failures([&] { policy_->on_remove(n, evicted); });
  }
  void on_pin(node_id n) override {
    with_failures([&] { policy_->on_pin(n); });
  }
  void on_unpin(node_id n) override {
    with_failures([&] { policy_->on_unpin(n); });
  }
  void on_request(const request_info& request) override {
    with_failures([&] { policy_->on_request(request); });
  }
  victim next_victim() override {
    return with_failures([&] { return policy_->next_victim(); });
  }
  std::size_t bytes() const noexcept override { return policy_->bytes(); }
  std::string check() const override { return policy_->check(); }

  int refused = 0;

 private:
  std::unique_ptr<eviction_policy> policy_;
  std::uint32_t one_in_;
  std::mt19937 random_{1};
};

class every_policy : public ::testing::TestWithParam<const char*> {};

void outlive_refused_allocations(const std::function<std::unique_ptr<eviction_policy>()>& make) {
  int refused = 0;
  for (const std::uint32_t one_in : {1u, 3u, 20u}) {
    short_of_memory policy(make(), one_in);
    sim_tree tree(policy, 3000, 16);
    const std::uint32_t chunk = policy.path_hash_tokens(16) / 16;
    random_paths paths(21 + one_in, 3, 80);
    std::vector<std::pair<sim_tree::handle, path>> open;
    for (int step = 0; step < 6000; ++step) {
      if (open.size() < 8 && paths.number() % 2 == 0) {
        const path p = paths.make();
        open.emplace_back(tree.open(p), p);
      } else if (!open.empty()) {
        const std::size_t k = paths.number() % open.size();
        const std::vector<std::uint64_t> hashes = hashes_of(open[k].second, chunk);
        request_info info;
        info.seconds = step;
        info.prompt_tokens = open[k].second.blocks * 16;
        info.path_hashes = hashes;
        tree.close(open[k].first, info);
        open[k] = open.back();
        open.pop_back();
      }
      ASSERT_EQ(tree.failure(), "") << "step " << step;
      if (step % 64 == 0) {
        ASSERT_EQ(policy.check(), "") << "step " << step;
      }
    }
    for (const auto& [handle, p] : open) tree.abandon(handle);
    refused += policy.refused;
    const std::int64_t cached = tree.cached();
    EXPECT_GT(cached, one_in == 1 ? -1 : 0);
    EXPECT_EQ(tree.evict(cached + 1), cached);
    EXPECT_EQ(tree.failure(), "");
  }
  EXPECT_GT(refused, 0);
}

TEST_P(every_policy, outlives_refused_allocations) {
  outlive_refused_allocations([] { return std::move(make_policy(GetParam())).value(); });
}

// Nor is a leaf lost where there is no memory to number anew what has been used.
TEST(lru, numbers_anew_without_memory) {
  for (const std::uint32_t limit : {3u, 20u, 500u}) {
    outlive_refused_allocations([=] { return std::make_unique<detail::lru_policy>(limit); });
  }
}

// The bytes that are remembered, by the capacity of every array, never exceed their limit.
TEST(reuse_index, histories_stay_within_their_bound) {
  constexpr std::int64_t capacity = 12'000;  // blocks
  for (const double per_token : {1.0, 1.4, 1.9}) {
    for (const std::uint32_t longest : {60u, 600u}) {
      detail::reuse_index_options options;
      options.history_bytes_per_token = per_token;
      detail::reuse_index_policy policy(options);
      sim_tree tree(policy, capacity, 16);
      const std::uint32_t chunk = policy.path_hash_tokens(16) / 16;
      random_paths paths(31, 40, longest);
      const double limit = per_token * static_cast<double>(capacity) * 16;
      double most = 0;
      for (int step = 0; step < 12'000; ++step) {
        const path p = paths.make();
        const sim_tree::handle h = tree.open(p);
        const std::vector<std::uint64_t> hashes = hashes_of(p, chunk);
        request_info info;
        info.seconds = step;
        info.prompt_tokens = p.blocks * 16;
        info.path_hashes = hashes;
        tree.close(h, info);
        ASSERT_EQ(tree.failure(), "") << "step " << step;
        const auto bytes = static_cast<double>(policy.remembered_bytes());
        most = std::max(most, bytes);
        ASSERT_LE(bytes, limit) << "step " << step << " at " << per_token << " bytes per token, "
                                << longest << " blocks";
        if (step % 512 == 0) {
          ASSERT_EQ(policy.check(), "") << "step " << step;
        }
      }
      EXPECT_GT(most, 0.8 * limit) << "the bound was never near";
    }
  }
}

// A run has one entry in the log, and its older ones give their room back: prompts that come again
// and again take no more than they would once, but for the records of turns.
TEST(reuse_index, what_is_used_again_takes_no_more_bytes) {
  constexpr int prompts = 64, turns = 6000;
  detail::reuse_index_policy policy;
  sim_tree tree(policy, 40'000, 16);
  const std::uint32_t chunk = policy.path_hash_tokens(16) / 16;
  random_paths paths(41, 8, 200);
  std::vector<path> known;
  for (int i = 0; i < prompts; ++i) known.push_back(paths.make());
  std::size_t once = 0;
  for (int step = 0; step < turns; ++step) {
    const path& p = known[static_cast<std::size_t>(step % prompts)];
    const sim_tree::handle h = tree.open(p);
    const std::vector<std::uint64_t> hashes = hashes_of(p, chunk);
    request_info info;
    info.seconds = step;
    info.prompt_tokens = p.blocks * 16;
    info.path_hashes = hashes;
    tree.close(h, info);
    if (step == 2 * prompts) once = policy.remembered_bytes();
  }
  ASSERT_EQ(tree.failure(), "");
  ASSERT_EQ(policy.check(), "");
  constexpr std::size_t records = turns * 5 / 4 * sizeof(detail::turn_record);
  EXPECT_LE(policy.remembered_bytes(), once + records);
}

INSTANTIATE_TEST_SUITE_P(policies, every_policy,
                         ::testing::Values("lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index"));

}  // namespace
}  // namespace radixkv
