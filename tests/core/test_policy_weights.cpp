// What a policy has learnt, saved and loaded through the cache: a restart goes on as it would have,
// and nothing that is damaged or another's is taken.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"

namespace radixkv {
namespace {

using bytes = std::vector<std::byte>;

kv_cache make_cache(const std::string& policy, double& now) {
  cache_options o;
  o.blocks = 300;
  o.block_tokens = 16;
  o.policy = policy;
  o.clock = [&now] { return now; };
  return kv_cache::create(std::move(o)).value();
}

// Conversations that go on for some turns, beside prompts that never return. The victims of every
// request, as text: which prefixes there are whenever something was evicted.
std::string drive(kv_cache& cache, double& now, unsigned seed, int requests) {
  std::mt19937 random(seed);
  std::vector<std::vector<token_id>> talks(12);
  std::string decisions;
  std::int64_t evicted = cache.statistics().evicted_blocks;
  for (int i = 0; i < requests; ++i) {
    now += 1;
    std::vector<token_id> once;
    const bool returns = random() % 2 == 0;
    std::vector<token_id>& t = returns ? talks[random() % talks.size()] : once;
    if (t.size() > 700) t.clear();
    const std::size_t longer = t.size() + (returns ? 40 + random() % 80 : 300);
    while (t.size() < longer) t.push_back(static_cast<token_id>(random() % 50'000));
    step_plan plan;
    sequence s = cache.open(t, "", plan).value();
    EXPECT_TRUE(s.mark_filled(s.tokens()).ok());
    EXPECT_TRUE(s.commit().ok());
    s.note_output(returns ? 200 : 10);
    s.release();
    decisions += std::to_string(cache.statistics().tokens_hit) + ";";
    if (cache.statistics().evicted_blocks == evicted) continue;
    evicted = cache.statistics().evicted_blocks;
    std::vector<std::string> left;
    EXPECT_TRUE(cache
                    .for_each_prefix([&](std::string_view, std::span<const token_id> path) {
                      left.push_back(std::to_string(path.size()) + "/" +
                                     std::to_string(path.back()));
                      return true;
                    })
                    .ok());
    std::ranges::sort(left);
    for (const std::string& one : left) decisions += one + ",";
  }
  return decisions;
}

bytes learnt_weights() {
  double now = 0;
  kv_cache cache = make_cache("reuse_index", now);
  drive(cache, now, 1, 3000);
  return cache.save_policy().value();
}

TEST(policy_weights, restarts_take_the_same_decisions) {
  const bytes learnt = learnt_weights();
  std::string decisions[3];
  bytes later[3];
  for (int i = 0; i < 3; ++i) {  // two that load, and one that has learnt nothing
    double now = 0;
    kv_cache cache = make_cache("reuse_index", now);
    if (i < 2) {
      ASSERT_TRUE(cache.load_policy(learnt).ok());
      EXPECT_EQ(cache.save_policy().value(), learnt);
    } else {
      EXPECT_NE(cache.save_policy().value(), learnt);
    }
    decisions[i] = drive(cache, now, 2, 2000);
    later[i] = cache.save_policy().value();
    EXPECT_EQ(cache.check_invariants(), "");
  }
  EXPECT_EQ(decisions[0], decisions[1]);
  EXPECT_EQ(later[0], later[1]);
  EXPECT_NE(decisions[0], decisions[2]);  // otherwise nothing was learnt that matters
}

// In the middle of its work, too: a policy that loads what it has just saved goes on as it was.
TEST(policy_weights, loading_what_was_saved_changes_no_decision) {
  std::string decisions[2];
  for (const bool reload : {false, true}) {
    double now = 0;
    kv_cache cache = make_cache("reuse_index", now);
    drive(cache, now, 1, 1280);  // keys are as new as the weights then
    if (reload) {
      ASSERT_TRUE(cache.load_policy(cache.save_policy().value()).ok());
    }
    decisions[reload] = drive(cache, now, 3, 1000);
  }
  EXPECT_EQ(decisions[0], decisions[1]);
}

class refusing : public ::testing::Test {
 protected:
  refusing() : cache_(make_cache("reuse_index", now_)) {
    drive(cache_, now_, 5, 500);
    before_ = cache_.save_policy().value();
  }
  void expect_refused(std::span<const std::byte> wrong, const std::string& where,
                      std::string_view said = "policy weights") {
    const status s = cache_.load_policy(wrong);
    ASSERT_FALSE(s.ok()) << where;
    ASSERT_EQ(s.error().code, errc::corrupt) << where;
    ASSERT_NE(s.error().message.find(said), std::string::npos) << where << s.error().message;
    ASSERT_EQ(cache_.save_policy().value(), before_) << where;
  }

  double now_ = 0;
  bytes learnt_ = learnt_weights();
  kv_cache cache_;
  bytes before_;
};

TEST_F(refusing, every_length_but_the_right_one) {
  for (std::size_t n = 0; n < learnt_.size(); ++n) {
    expect_refused(std::span(learnt_).first(n), std::to_string(n) + " bytes",
                   "have " + std::to_string(n) + " bytes, not " + std::to_string(learnt_.size()));
  }
  bytes longer = learnt_;
  longer.push_back(std::byte{0});
  expect_refused(longer, "one byte more");
}

TEST_F(refusing, every_flipped_bit) {
  bytes damaged = learnt_;
  for (std::size_t bit = 0; bit < 8 * damaged.size(); ++bit) {
    const std::byte mask{static_cast<std::uint8_t>(1u << bit % 8)};
    damaged[bit / 8] ^= mask;
    expect_refused(damaged, "bit " + std::to_string(bit));
    damaged[bit / 8] ^= mask;
  }
  EXPECT_TRUE(cache_.load_policy(damaged).ok());
}

// Bytes 0 … 7 name the format and its version, then come the numbers of bins and of features.
TEST_F(refusing, other_versions) {
  bytes other = learnt_;
  other[7] = std::byte{'2'};
  expect_refused(other, "version", "rkvhaz01");
  other = learnt_;
  other[8] = std::byte{21};
  expect_refused(other, "bins", "21 bins");
  other = learnt_;
  other[12] ^= std::byte{1};
  expect_refused(other, "features", "features, not");
}

// What was refused leaves no trace in later decisions either.
TEST(policy_weights, refusals_change_no_decision) {
  const bytes learnt = learnt_weights();
  std::string decisions[2];
  for (const bool refuse : {false, true}) {
    double now = 0;
    kv_cache cache = make_cache("reuse_index", now);
    for (int i = 0; i < 300; ++i) {
      if (refuse) {
        EXPECT_FALSE(cache.load_policy(std::span(learnt).first(100)).ok());
      }
      decisions[refuse] += drive(cache, now, 10u + static_cast<unsigned>(i), 7);
    }
  }
  EXPECT_EQ(decisions[0], decisions[1]);
}

TEST(policy_weights, policies_that_learn_nothing_take_nothing) {
  const bytes learnt = learnt_weights();
  for (const char* policy : {"lru", "fifo", "lfu", "slru", "s3fifo"}) {
    double now = 0;
    kv_cache cache = make_cache(policy, now);
    drive(cache, now, 1, 50);
    EXPECT_TRUE(cache.save_policy().value().empty()) << policy;
    EXPECT_TRUE(cache.load_policy({}).ok()) << policy;
    const status s = cache.load_policy(learnt);
    ASSERT_FALSE(s.ok()) << policy;
    EXPECT_EQ(s.error().code, errc::invalid_argument) << policy;
    EXPECT_NE(s.error().message.find(std::string("policy ") + policy), std::string::npos);
    EXPECT_EQ(cache.check_invariants(), "");
  }
}

}  // namespace
}  // namespace radixkv
