// An application's own eviction policy in a cache: how it gets there, and what a bad one does.
#include <limits>
#include <memory>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "examples/sampled_lru.h"
#include "radixkv/kv_cache.h"
#include "tests/core/kv_cache_cases.h"

namespace radixkv::testing {
namespace {

// LRU, under another name and with hashes of its own, that may throw.
class forwarding : public eviction_policy {
 public:
  std::string_view name() const noexcept override { return name_; }
  std::uint32_t path_hash_tokens(std::uint32_t) const noexcept override { return hashed_; }
  void attach(const tree_view& tree, std::int64_t blocks) override { to_->attach(tree, blocks); }
  bool make_room(node_id limit) noexcept override { return to_->make_room(limit); }
  void on_insert(node_id n) override {
    if (throws_) throw std::runtime_error("no such node");
    to_->on_insert(n);
  }
  void on_extend(node_id n, std::uint32_t blocks) override { to_->on_extend(n, blocks); }
  void on_split(node_id upper, node_id lower) override { to_->on_split(upper, lower); }
  void on_trim(node_id n, std::uint32_t blocks) override { to_->on_trim(n, blocks); }
  void on_remove(node_id n, bool evicted) override { to_->on_remove(n, evicted); }
  void on_pin(node_id n) override {
    ++pins_;
    to_->on_pin(n);
  }
  void on_unpin(node_id n) override { to_->on_unpin(n); }
  void on_request(const request_info& request) override {
    if (hashed_ > 0 && request.prompt_tokens >= hashed_) hashes_seen_ += request.path_hashes.size();
    output_tokens_ = request.output_tokens;
    prompt_tokens_ = request.prompt_tokens;
    matched_blocks_ = request.matched_blocks;
    to_->on_request(request);
  }
  victim next_victim() override { return to_->next_victim(); }
  policy_statistics statistics() const noexcept override {
    policy_statistics s;
    s.requests = 77;
    return s;
  }
  std::size_t bytes() const noexcept override { return to_->bytes(); }
  std::string check() const override { return to_->check(); }

  std::string name_ = "forwarding";
  std::uint32_t hashed_ = 0;
  bool throws_ = false;
  std::size_t hashes_seen_ = 0;
  std::uint32_t output_tokens_ = 0;  // of the last request
  std::uint32_t prompt_tokens_ = 0;
  std::uint32_t matched_blocks_ = 0;
  int pins_ = 0;

 private:
  std::unique_ptr<eviction_policy> to_ = std::move(make_policy("lru").value());
};

cache_options small() {
  cache_options o;
  o.blocks = 32;
  o.block_tokens = 4;
  o.min_prefix_tokens = 1;
  return o;
}

// Those of a cache with a forwarding policy, which becomes `made`.
cache_options with_forwarding(forwarding*& made) {
  cache_options o = small();
  o.policy_factory = [&made] {
    auto policy = std::make_unique<forwarding>();
    made = policy.get();
    return policy;
  };
  return o;
}

// A fork is a request of its own, whose prompt is what it was forked with.
TEST(own_policy, is_told_of_forks) {
  forwarding* made = nullptr;
  kv_cache cache = kv_cache::create(with_forwarding(made)).value();
  step_plan plan;
  sequence s = cache.open(counting(0, 5), {}, plan).value();
  ASSERT_TRUE(s.append(counting(5, 3), plan).ok() && s.mark_filled(8).ok() && s.commit().ok());
  const int pins = made->pins_;
  sequence child = s.fork().value();
  EXPECT_EQ(made->pins_, pins + 1);
  child.release();
  EXPECT_EQ(made->prompt_tokens_, 8u);
  s.release();
  EXPECT_EQ(made->prompt_tokens_, 5u);
}

// All that was cached of a prompt counts, though its last token is computed again.
TEST(own_policy, is_told_what_was_matched) {
  forwarding* made = nullptr;
  kv_cache cache = kv_cache::create(with_forwarding(made)).value();
  publish(cache, counting(0, 8));
  EXPECT_EQ(made->matched_blocks_, 0u);
  publish(cache, counting(0, 8));
  EXPECT_EQ(made->matched_blocks_, 2u);
  EXPECT_EQ(cache.statistics().policy.requests, 77);
}

TEST(own_policy, decides_what_goes_and_is_asked_for_nothing_else) {
  cache_options o = small();
  forwarding* made = nullptr;
  o.policy_factory = [&] {
    auto policy = std::make_unique<forwarding>();
    made = policy.get();
    made->hashed_ = 8;
    return policy;
  };
  o.policy = "no such policy, which nobody looks for";
  kv_cache cache = kv_cache::create(o).value();
  EXPECT_EQ(cache.options().policy, "forwarding");
  publish(cache, counting(0, 16));
  publish(cache, counting(100, 16));
  publish(cache, counting(0, 16));
  EXPECT_EQ(made->hashes_seen_, 6u);
  EXPECT_EQ(cache.evict(4), 4);
  EXPECT_EQ(cache.match(counting(0, 16)).tokens, 16);
  EXPECT_EQ(cache.match(counting(100, 16)).tokens, 0);
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(own_policy, hears_how_many_tokens_were_generated_however_many_are_said) {
  forwarding* made = nullptr;
  kv_cache cache = kv_cache::create(with_forwarding(made)).value();
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  constexpr auto longest = static_cast<std::uint32_t>(max_sequence_tokens);
  const std::pair<std::int64_t, std::uint32_t> cases[] = {{5, 8},
                                                          {0, 3},
                                                          {-4, 3},
                                                          {-most - 1, 3},
                                                          {longest - 1, longest},
                                                          {longest + 1ll, longest},
                                                          {most - 1, longest}};
  for (const auto& [said, heard] : cases) {
    step_plan plan;
    sequence s = cache.open(counting(0, 16), {}, plan).value();
    s.note_output(said);
    ASSERT_TRUE(s.reserve(3, plan).ok());
    ASSERT_TRUE(s.accept(counting(50, 3)).ok());
    ASSERT_TRUE(s.mark_filled(s.tokens()).ok());
    ASSERT_TRUE(s.commit().ok());
    s.release();
    EXPECT_EQ(made->output_tokens_, heard) << said;
  }
}

TEST(own_policy, keeps_a_cache_sound_with_hints_under_load) {
  cache_options o = small();
  o.max_prefixes = 12;
  o.policy_factory = [] { return std::make_unique<sampled_lru>(); };
  kv_cache cache = kv_cache::create(o).value();
  std::mt19937_64 random(7);
  std::vector<sequence> open;
  pinned_prefix stay = cache.pin_prefix(counting(0, 8)).value();
  for (int i = 0; i < 3000; ++i) {
    step_plan plan;
    const auto prompt = counting(static_cast<token_id>(random() % 6) * 100, 1 + random() % 40);
    if (auto s = cache.open(prompt, {}, plan)) {
      ASSERT_TRUE(s->mark_filled(s->tokens()).ok());
      ASSERT_TRUE(s->commit().ok());
      if (random() % 4 == 0) {
        ASSERT_TRUE(s->set_priority(0, 8, static_cast<int>(random() % 201) - 100).ok());
      }
      open.push_back(std::move(*s));
    }
    if (open.size() > random() % 4) open.erase(open.begin());
    if (i % 16 == 0) ASSERT_EQ(cache.check_invariants(), "") << i;
  }
  open.clear();
  EXPECT_GT(cache.statistics().evicted_blocks, 1000);
  EXPECT_GT(cache.statistics().tokens_hit, 1000);
  stay.unpin();
  const std::int64_t cached = cache.statistics().blocks_cached;
  EXPECT_EQ(cache.evict(cached + 1), cached);
}

TEST(own_policy, a_factory_that_makes_none_makes_no_cache) {
  const auto refused = [](auto factory) {
    cache_options o = small();
    o.policy_factory = factory;
    auto cache = kv_cache::create(o);
    EXPECT_FALSE(cache.ok());
    return cache.ok() ? error{} : cache.error();
  };
  EXPECT_EQ(refused([] { return nullptr; }).message, "policy_factory made no policy");
  EXPECT_EQ(refused([] {
              auto p = std::make_unique<forwarding>();
              p->name_.clear();
              return p;
            }).message,
            "policy_factory made a policy with an empty name");
  EXPECT_EQ(refused([] {
              auto p = std::make_unique<forwarding>();
              p->hashed_ = 6;
              return p;
            }).message,
            "path_hash_tokens 6 of policy 'forwarding' is not a multiple of block_tokens 4");
  EXPECT_EQ(refused([]() -> std::unique_ptr<eviction_policy> { throw std::bad_alloc(); }).code,
            errc::out_of_memory);
  cache_options o = small();
  o.policy_factory = []() -> std::unique_ptr<eviction_policy> { throw std::runtime_error("none"); };
  EXPECT_THROW((void)kv_cache::create(o), std::runtime_error);
}

TEST(own_policy_death, a_policy_that_throws_ends_the_process) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  cache_options o = small();
  o.policy_factory = [] {
    auto policy = std::make_unique<forwarding>();
    policy->throws_ = true;
    return policy;
  };
  kv_cache cache = kv_cache::create(o).value();
  EXPECT_DEATH(publish(cache, counting(0, 8)), "no such node");
}

}  // namespace
}  // namespace radixkv::testing
