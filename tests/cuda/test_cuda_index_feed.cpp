// A cache and the device index that its feed keeps: whatever the cache goes through, a match on the
// device answers as the cache, floored to blocks; and no block is filled anew under a match.
#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "radixkv/cuda_index_feed.h"
#include "radixkv/kv_cache.h"
#include "tests/cuda/executor_test.h"

namespace radixkv::testing {
namespace {

constexpr std::int64_t blocks = 96;
constexpr std::uint32_t block_tokens = 4;

using tokens = std::vector<token_id>;

struct fed_cache {
  explicit fed_cache(std::int32_t max_namespaces = 1 << 20)
      : index(std::make_shared<cuda_index>(cuda_index::create({.blocks = blocks,
                                                               .block_tokens = block_tokens,
                                                               .max_prompts = 64,
                                                               .max_prompt_tokens = 1 << 12,
                                                               .staging_bytes = 128 << 10,
                                                               .matches_in_flight = 8})
                                               .value())),
        feed(std::make_shared<cuda_index_feed>(index, max_namespaces)),
        cache(kv_cache::create(options(feed)).value()) {}

  static cache_options options(std::shared_ptr<index_listener> listener) {
    cache_options o;
    o.blocks = blocks;
    o.block_tokens = block_tokens;
    o.min_prefix_tokens = 1;
    o.listener = std::move(listener);
    return o;
  }

  // Caches the prompt. False if there is no room.
  bool add(const tokens& prompt, std::string_view space) {
    step_plan plan;
    result<sequence> s = cache.open(prompt, space, plan);
    if (!s) {
      EXPECT_EQ(s.error().code, errc::out_of_blocks) << s.error().message;
      return false;
    }
    EXPECT_TRUE(s->mark_filled(s->tokens()).ok());
    EXPECT_TRUE(s->commit().ok());
    return true;
  }

  void update(cudaStream_t stream) {
    status s = index->update(stream);
    while (!s && s.error().code == errc::busy) s = index->update(stream);
    ASSERT_TRUE(s.ok()) << s.error().message;
  }

  std::shared_ptr<cuda_index> index;
  std::shared_ptr<cuda_index_feed> feed;
  kv_cache cache;
};

struct request {
  tokens prompt;
  std::string space;
};

// A batch on the device, launched; its results are read once the stream is done.
class launched_match {
 public:
  launched_match(fed_cache& fed, const std::vector<request>& requests, cudaStream_t stream)
      : count_(requests.size()) {
    tokens all;
    offsets_.push_back(0);
    std::vector<std::int32_t> ids;
    for (const request& r : requests) {
      all.insert(all.end(), r.prompt.begin(), r.prompt.end());
      offsets_.push_back(static_cast<std::int64_t>(all.size()));
      ids.push_back(fed.feed->namespace_id(r.space));
    }
    prompts_.upload(all);
    device_offsets_.upload(offsets_);
    ids_.upload(ids);
    const auto ticket =
        fed.index->match(stream, {.tokens = prompts_.data(),
                                  .offsets = device_offsets_.data(),
                                  .namespace_ids = ids_.data(),
                                  .prompts = static_cast<std::uint32_t>(count_),
                                  .token_count = static_cast<std::int64_t>(all.size()),
                                  .matched_blocks = matched_.data(),
                                  .block_table = table_.data()});
    EXPECT_TRUE(ticket.ok()) << ticket.error().message;
    ticket_ = ticket.ok() ? *ticket : 0;
  }

  void finish(fed_cache& fed, cudaStream_t stream) {
    RADIXKV_ASSERT_OK(fed.index->finish(stream, ticket_));
  }

  std::vector<block_id> found(std::size_t p) {
    const auto matched = matched_.download(p, 1);
    if (matched[0] == 0) return {};
    return table_.download(static_cast<std::size_t>(offsets_[p]) / block_tokens,
                           static_cast<std::size_t>(matched[0]));
  }

 private:
  std::size_t count_;
  std::uint64_t ticket_ = 0;
  std::vector<std::int64_t> offsets_;
  device_array<token_id> prompts_{1 << 12};
  device_array<std::int64_t> device_offsets_{65};
  device_array<std::int32_t> ids_{64};
  device_array<std::int32_t> matched_{64};
  device_array<block_id> table_{1 << 10};
};

request random_request(std::mt19937& random) {
  request r{tokens(1 + random() % 40), std::string(random() % 2, 'x')};
  for (token_id& t : r.prompt) t = random() % 2;
  return r;
}

TEST(cuda_index_feed, device_answers_as_the_cache_floored_to_blocks) {
  fed_cache fed;
  test_stream stream;
  std::mt19937 random(5);
  std::int64_t hits = 0, refused = 0;
  for (int round = 0; round < 80; ++round) {
    for (int i = 0; i < 12; ++i) {
      const request r = random_request(random);
      refused += !fed.add(r.prompt, r.space);
    }
    if (random() % 3 == 0) (void)fed.cache.evict(static_cast<std::int64_t>(random() % 30));
    if (random() % 8 == 0) (void)fed.cache.clear();
    fed.update(stream);
    std::vector<request> requests(8);
    for (request& r : requests) r = random_request(random);
    launched_match match(fed, requests, stream);
    match.finish(fed, stream);
    stream.synchronize();
    for (std::size_t p = 0; p < requests.size(); ++p) {
      std::vector<block_id> table(requests[p].prompt.size() / block_tokens);
      const prefix_match host = fed.cache.match(requests[p].prompt, requests[p].space, table);
      table.resize(static_cast<std::size_t>(host.blocks));
      ASSERT_EQ(match.found(p), table) << "round " << round << " prompt " << p;
      hits += host.blocks;
    }
  }
  EXPECT_GT(hits, 100);
  EXPECT_GT(refused, 0);  // some evicted blocks had to wait for the device
  EXPECT_EQ(fed.feed->refused(), 0);
  EXPECT_EQ(fed.cache.check_invariants(), "");
  EXPECT_EQ(fed.index->check_invariants(), "");
}

TEST(cuda_index_feed, blocks_under_a_match_are_not_filled_anew) {
  fed_cache fed;
  test_stream stream;
  const request old{tokens(blocks * block_tokens, 1), ""};
  ASSERT_TRUE(fed.add(old.prompt, old.space));
  fed.update(stream);
  launched_match match(fed, {old}, stream);
  EXPECT_EQ(fed.cache.evict(blocks), blocks);
  fed.update(stream);
  stream.synchronize();
  RADIXKV_ASSERT_OK(fed.index->synchronize());
  // The match has run, but whoever launched it may still read what it found.
  EXPECT_EQ(match.found(0).size(), static_cast<std::size_t>(blocks));
  EXPECT_FALSE(fed.add(tokens(8, 2), ""));
  EXPECT_EQ(fed.cache.statistics().blocks_retiring, blocks);
  match.finish(fed, stream);
  stream.synchronize();
  EXPECT_TRUE(fed.add(tokens(8, 2), ""));
  EXPECT_EQ(fed.cache.statistics().blocks_retiring, 0);
}

TEST(cuda_index_feed, namespaces_beyond_the_limit_are_not_mirrored) {
  fed_cache fed(1);
  test_stream stream;
  ASSERT_TRUE(fed.add(tokens(20, 1), "a"));
  ASSERT_TRUE(fed.add(tokens(20, 1), "b"));
  EXPECT_EQ(fed.index->size(), 5);
  // The first block of b was refused, and what lies below it was not offered.
  EXPECT_EQ(fed.feed->refused(), 1);
  EXPECT_EQ(fed.feed->namespace_id("a"), 0);
  EXPECT_EQ(fed.feed->namespace_id("b"), cuda_index_feed::unpublished);
  EXPECT_EQ(fed.cache.clear(), 10);
  EXPECT_EQ(fed.index->size(), 0);
  EXPECT_EQ(fed.cache.statistics().blocks_retiring, 5);
}

TEST(cuda_index_feed, names_that_publish_nothing_take_nothing) {
  fed_cache fed(4);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(fed.feed->namespace_id("junk" + std::to_string(i)), cuda_index_feed::unpublished);
  }
  ASSERT_TRUE(fed.add(tokens(20, 1), "tenant"));
  EXPECT_EQ(fed.index->size(), 5);
  EXPECT_EQ(fed.feed->namespace_id("tenant"), 0);
  for (int i = 0; i < 100; ++i) (void)fed.feed->namespace_id("junk" + std::to_string(i));
  EXPECT_EQ(fed.feed->namespace_id("tenant"), 0);
  EXPECT_EQ(fed.feed->refused(), 0);
}

// Random names are looked up, publish and drop. Against a map of what each name has in the index,
// and a set of all ids that were ever given.
TEST(cuda_index_feed, ids_follow_what_is_published) {
  constexpr std::int32_t limit = 5;
  fed_cache fed(limit);
  cuda_index_feed& feed = *fed.feed;
  std::mt19937 random(9);
  std::map<std::string, std::vector<block_id>> published;  // only of names that have some
  std::map<std::string, std::int32_t> ids;                 // the last ones seen
  std::map<std::int32_t, std::string> given;
  std::map<std::string, std::int32_t> kept;  // of names that have some
  std::vector<block_id> free;
  for (block_id b = 0; b < blocks; ++b) free.push_back(b);
  std::int64_t refused = 0, changed = 0;
  for (int step = 0; step < 4000; ++step) {
    const std::string name(1 + random() % 2, static_cast<char>('a' + random() % 6));
    const auto mine = published.find(name);
    const bool has = mine != published.end();
    const bool full = published.size() == limit;
    if (random() % 2 == 0 && has) {
      std::vector<block_id>& blocks_of = mine->second;
      EXPECT_EQ(feed.on_drop(blocks_of.back()), 1u);
      free.push_back(blocks_of.back());
      blocks_of.pop_back();
      if (blocks_of.empty()) published.erase(mine);
    } else if (random() % 2 && !free.empty()) {
      const tokens own(block_tokens, static_cast<token_id>(step));
      const bool bad = random() % 8 == 0;  // a parent that is not in the index
      const bool taken = feed.on_publish(free.back(), bad ? free.back() : no_block, name, own);
      ASSERT_EQ(taken, !bad && (has || !full)) << "step " << step;
      refused += !taken;
      if (!taken) continue;
      published[name].push_back(free.back());
      free.pop_back();
    } else {
      const std::int32_t id = feed.namespace_id(name);
      ASSERT_TRUE(!has || id != cuda_index_feed::unpublished) << "step " << step;
      if (id == cuda_index_feed::unpublished) continue;
      const auto [known, is_new] = given.emplace(id, name);
      ASSERT_EQ(known->second, name);
      if (ids.contains(name)) {
        ASSERT_TRUE(ids[name] == id || is_new);
        changed += is_new;
      }
      ids[name] = id;
    }
    ASSERT_EQ(feed.refused(), refused);
    // Whoever has blocks keeps his id.
    std::erase_if(kept, [&](const auto& k) { return !published.contains(k.first); });
    for (const auto& [who, blocks_of] : published) {
      const std::int32_t id = feed.namespace_id(who);
      ASSERT_EQ(kept.try_emplace(who, id).first->second, id) << "step " << step;
    }
  }
  EXPECT_GT(refused, 100);
  EXPECT_GT(changed, 100);
}

TEST(cuda_index_feed, the_name_asked_for_longest_ago_is_forgotten) {
  fed_cache fed(2);
  cuda_index_feed& feed = *fed.feed;
  const auto publish_and_drop = [&](block_id block, const char* name) {
    ASSERT_TRUE(feed.on_publish(block, no_block, name, tokens(block_tokens, 1)));
    ASSERT_EQ(feed.on_drop(block), 1u);
  };
  publish_and_drop(0, "older");
  publish_and_drop(1, "newer");
  EXPECT_EQ(feed.namespace_id("older"), 0);  // asked for again, so the other one is the older now
  publish_and_drop(2, "third");
  EXPECT_EQ(feed.namespace_id("older"), 0);
  EXPECT_EQ(feed.namespace_id("newer"), cuda_index_feed::unpublished);
  EXPECT_EQ(feed.namespace_id("third"), 2);
}

TEST(cuda_index_feed, tickets_never_fall) {
  fed_cache fed;
  constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();
  ASSERT_TRUE(fed.feed->on_publish(3, no_block, "a", tokens(block_tokens, 1)));
  ASSERT_TRUE(fed.feed->on_publish(4, no_block, "a", tokens(block_tokens, 2)));
  EXPECT_EQ(fed.feed->on_drop(3), 1u);
  EXPECT_EQ(fed.feed->on_drop(7), never);  // it was never taken
  EXPECT_EQ(fed.feed->on_drop(4), never);
}

TEST(cuda_index_feed, blocks_are_free_once_the_index_is_synchronised) {
  fed_cache fed;
  test_stream stream;
  const request old{tokens(blocks * block_tokens, 1), ""};
  ASSERT_TRUE(fed.add(old.prompt, old.space));
  fed.update(stream);
  launched_match match(fed, {old}, stream);
  EXPECT_EQ(fed.cache.evict(blocks), blocks);
  fed.update(stream);
  match.finish(fed, stream);
  RADIXKV_ASSERT_OK(fed.index->synchronize());
  EXPECT_TRUE(fed.add(tokens(8, 2), ""));
}

}  // namespace
}  // namespace radixkv::testing
