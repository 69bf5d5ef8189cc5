// Where a thread's time goes: to whom it is told, for how long, and for which operations.
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/stage_timer.h"
#include "radixkv/kv_cache.h"

namespace radixkv::detail {
namespace {

kv_cache make() {
  cache_options options;
  options.blocks = 64;
  options.block_tokens = 4;
  return kv_cache::create(options).value();
}

std::vector<token_id> prompt_from(token_id first) {
  std::vector<token_id> t(40);
  std::iota(t.begin(), t.end(), first);
  return t;
}

void serve(kv_cache& cache, std::span<const token_id> tokens) {
  step_plan plan;
  sequence s = cache.open(tokens, {}, plan).value();
  ASSERT_TRUE(s.mark_filled(s.tokens()).ok());
  ASSERT_TRUE(s.commit().ok());
}

// Often enough that the coarsest clock moves on.
void serve_many(kv_cache& cache) {
  for (token_id i = 0; i < 200; ++i) serve(cache, prompt_from(1000 * i));
}

bool nothing(const stage_times& t) { return t.match + t.allocate + t.commit + t.evict == 0; }

TEST(stage_timer, each_operation_has_its_stage) {
  kv_cache cache = make();
  stage_times serving;
  {
    const stage_recording recording(serving);
    serve_many(cache);
  }
  EXPECT_GT(serving.match, 0u);
  EXPECT_GT(serving.allocate, 0u);
  EXPECT_GT(serving.commit, 0u);
  EXPECT_GT(serving.evict, 0u);  // the pool holds six of the prompts

  stage_times matching;
  {
    const stage_recording recording(matching);
    for (token_id i = 0; i < 200; ++i) (void)cache.match(prompt_from(1000 * i), {}, {});
  }
  EXPECT_GT(matching.match, 0u);
  matching.match = 0;
  EXPECT_TRUE(nothing(matching));
  const std::uint64_t evicted = serving.evict;
  stage_times evicting;
  {
    const stage_recording recording(evicting);
    while (cache.evict(1) > 0) {
    }
  }
  EXPECT_GT(evicting.evict, 0u);
  evicting.evict = 0;
  EXPECT_TRUE(nothing(evicting));
  EXPECT_EQ(serving.evict, evicted) << "a recording that has ended went on";
}

TEST(stage_timer, a_thread_records_its_own) {
  kv_cache cache = make();
  stage_times mine;
  const stage_recording recording(mine);
  std::thread([&] { serve_many(cache); }).join();
  EXPECT_TRUE(nothing(mine));
  stage_times others;
  std::thread([&] {
    const stage_recording recording_too(others);
    serve_many(cache);
  }).join();
  EXPECT_GT(others.match, 0u);
  EXPECT_TRUE(nothing(mine));
  EXPECT_EQ(recorded_stages, &mine);
}

TEST(stage_timer, a_recording_ends_with_its_scope) {
  EXPECT_EQ(recorded_stages, nullptr);
  try {
    stage_times times;
    const stage_recording recording(times);
    EXPECT_EQ(recorded_stages, &times);
    throw std::runtime_error("thrown through it");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(recorded_stages, nullptr);
}

// Not by a second stop, nor by its end after one.
TEST(stage_timer, a_stopped_timer_adds_nothing_more) {
  stage_times times;
  const stage_recording recording(times);
  std::uint64_t stopped = 0;
  {
    stage_timer timer(&stage_times::commit);
    EXPECT_EQ(times.commit, 0u);
    timer.stop();
    stopped = times.commit;
    for (const std::uint64_t begin = ticks_now(); ticks_now() == begin;) {
    }
    timer.stop();
  }
  EXPECT_EQ(times.commit, stopped);
}

}  // namespace
}  // namespace radixkv::detail
