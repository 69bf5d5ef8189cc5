// What a listener is told, against a mirror of it that knows only parents and tokens; and that no
// block is handed out again while the listener's readers may name it.
#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"

namespace radixkv {
namespace {

class mirror final : public index_listener {
 public:
  struct entry {
    block_id parent;
    std::string space;
    std::vector<token_id> tokens;
    int children = 0;
  };

  bool on_publish(block_id block, block_id parent, std::string_view space,
                  std::span<const token_id> tokens) noexcept override {
    if (refuse > 0 && --refuse == 0) {
      refuse = 3;
      return false;
    }
    EXPECT_FALSE(blocks.contains(block)) << "offered twice: " << block;
    if (parent != no_block) {
      const auto above = blocks.find(parent);
      EXPECT_NE(above, blocks.end()) << "before its parent: " << block;
      if (above == blocks.end()) return false;
      EXPECT_EQ(above->second.space, space);
      ++above->second.children;
    }
    for (const auto& [id, e] : blocks) {
      EXPECT_FALSE(e.parent == parent && e.space == space &&
                   std::equal(tokens.begin(), tokens.end(), e.tokens.begin()))
          << "the same path twice";
    }
    blocks[block] = {parent, std::string(space), {tokens.begin(), tokens.end()}};
    return true;
  }
  std::uint64_t on_drop(block_id block) noexcept override {
    const auto at = blocks.find(block);
    EXPECT_NE(at, blocks.end()) << "dropped, but never taken: " << block;
    if (at == blocks.end()) return ticket;
    EXPECT_EQ(at->second.children, 0) << "dropped before its children: " << block;
    if (at->second.parent != no_block) --blocks.at(at->second.parent).children;
    blocks.erase(at);
    named[block] = ticket + 1;
    return ticket + 1;
  }
  std::uint64_t retired() noexcept override {
    for (auto it = named.begin(); it != named.end();) {
      it = it->second <= reached ? named.erase(it) : std::next(it);
    }
    return reached;
  }

  // The whole blocks of a prompt that the mirror would find.
  std::vector<block_id> match(std::string_view space, std::span<const token_id> tokens,
                              std::size_t block_tokens) const {
    std::vector<block_id> found;
    block_id parent = no_block;
    while (tokens.size() >= block_tokens) {
      const auto next = std::find_if(blocks.begin(), blocks.end(), [&](const auto& b) {
        return b.second.parent == parent && b.second.space == space &&
               std::equal(b.second.tokens.begin(), b.second.tokens.end(), tokens.begin());
      });
      if (next == blocks.end()) break;
      parent = next->first;
      found.push_back(parent);
      tokens = tokens.subspan(block_tokens);
    }
    return found;
  }

  std::map<block_id, entry> blocks;
  std::map<block_id, std::uint64_t> named;  // dropped, with the ticket that it waits for
  std::uint64_t ticket = 0;                 // of the last publication of the mirror
  std::uint64_t reached = 0;
  int refuse = 0;  // refuses the n-th offer from now, then every third
};

std::vector<token_id> random_prompt(std::mt19937& random) {
  std::vector<token_id> t(1 + random() % 40);
  for (token_id& x : t) x = random() % 2;
  return t;
}

cache_options options_with(std::shared_ptr<mirror> listener, const char* policy = "lru") {
  cache_options o;
  o.blocks = 48;
  o.block_tokens = 4;
  o.min_prefix_tokens = 1;
  o.policy = policy;
  o.listener = std::move(listener);
  return o;
}

// Random sequences, forks, commits, evictions; the mirror publishes and retires now and then.
class random_load {
 public:
  random_load(std::shared_ptr<mirror> m, kv_cache& cache, std::uint32_t seed)
      : mirror_(std::move(m)), cache_(cache), random_(seed) {}

  void step() {
    switch (random_() % 12) {
      case 0:
      case 1:
      case 2:
        open();
        break;
      case 3:
      case 4:
      case 5:
        if (sequence* s = any()) {
          (void)s->mark_filled(s->filled_tokens() + static_cast<std::int64_t>(random_() % 8) %
                                                        (s->tokens() - s->filled_tokens() + 1));
          ASSERT_TRUE(s->commit().ok());
        }
        break;
      case 6:
        if (sequence* s = any()) {
          const std::vector<token_id> more = random_prompt(random_);
          see(*s, s->append(more, plan_));
        }
        break;
      case 7:
        if (sequence* s = any(); s && open_.size() < 12) {
          if (result<sequence> child = s->fork()) open_.push_back(std::move(*child));
        }
        break;
      case 8:
        if (sequence* s = any()) {
          (void)s->truncate(s->committed_tokens() + static_cast<std::int64_t>(random_()) %
                                                        (s->tokens() - s->committed_tokens() + 1));
        }
        break;
      case 9:
        if (!open_.empty())
          open_.erase(open_.begin() + static_cast<long>(random_() % open_.size()));
        break;
      case 10:
        if (random_() % 30 == 0) {
          (void)cache_.clear();
        } else {
          (void)cache_.evict(static_cast<std::int64_t>(random_() % 6));
        }
        break;
      default:
        ++mirror_->ticket;
        if (random_() % 2) mirror_->reached = mirror_->ticket;
    }
    plan_.clear();
  }

  sequence* any() { return open_.empty() ? nullptr : &open_[random_() % open_.size()]; }

  void open() {
    if (open_.size() >= 12) return;
    const std::string space(random_() % 2, 'x');
    result<sequence> s = cache_.open(random_prompt(random_), space, plan_);
    if (!s) {
      ASSERT_EQ(s.error().code, errc::out_of_blocks) << s.error().message;
      return;
    }
    see(*s, {});
    open_.push_back(std::move(*s));
  }

  // No block that the sequence may write to is one that readers of the mirror may name.
  void see(const sequence& s, const status& done) {
    if (!done) return;
    (void)mirror_->retired();
    const std::span<const block_id> table = s.block_table();
    for (std::size_t i = static_cast<std::size_t>(s.filled_tokens() / 4); i < table.size(); ++i) {
      EXPECT_FALSE(mirror_->named.contains(table[i])) << "block " << table[i];
      EXPECT_FALSE(mirror_->blocks.contains(table[i])) << "block " << table[i];
    }
  }

  void check_mirror(bool complete) {
    ASSERT_EQ(cache_.check_invariants(), "");
    for (int i = 0; i < 20; ++i) {
      const std::vector<token_id> prompt = random_prompt(random_);
      std::vector<block_id> table(prompt.size() / 4 + 1);
      const std::string space(random_() % 2, 'x');
      const prefix_match found = cache_.match(prompt, space, table);
      table.resize(static_cast<std::size_t>(found.blocks));
      const std::vector<block_id> theirs = mirror_->match(space, prompt, 4);
      if (complete) {
        EXPECT_EQ(theirs, table);
      } else {
        ASSERT_LE(theirs.size(), table.size());
        EXPECT_TRUE(std::equal(theirs.begin(), theirs.end(), table.begin()));
      }
    }
  }

  void close() { open_.clear(); }

 private:
  std::shared_ptr<mirror> mirror_;
  kv_cache& cache_;
  std::mt19937 random_;
  std::vector<sequence> open_;
  step_plan plan_;
};

class listener_load : public ::testing::TestWithParam<std::tuple<const char*, int>> {};

TEST_P(listener_load, mirror_is_the_index_floored_to_blocks) {
  const auto [policy, refuse] = GetParam();
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    auto m = std::make_shared<mirror>();
    m->refuse = refuse;
    auto cache = kv_cache::create(options_with(m, policy));
    ASSERT_TRUE(cache.ok());
    random_load load(m, *cache, seed);
    for (int i = 0; i < 1500; ++i) {
      load.step();
      if (i % 50 == 0) load.check_mirror(refuse == 0);
      if (HasFatalFailure()) return;
    }
    load.close();
    (void)cache->clear();
    EXPECT_TRUE(m->blocks.empty());
    EXPECT_EQ(cache->check_invariants(), "");
    const cache_statistics s = cache->statistics();
    EXPECT_EQ(s.blocks_free + s.blocks_retiring, s.blocks);
  }
}
INSTANTIATE_TEST_SUITE_P(policies, listener_load,
                         ::testing::Combine(::testing::Values("lru", "reuse_index"),
                                            ::testing::Values(0, 5)));

TEST(index_listener, what_was_given_up_is_free_when_it_has_retired) {
  auto m = std::make_shared<mirror>();
  auto cache = kv_cache::create(options_with(m));
  step_plan plan;
  std::vector<token_id> prompt(48 * 4, 1);
  {
    result<sequence> s = cache->open(prompt, "", plan);
    ASSERT_TRUE(s.ok());
    ASSERT_TRUE(s->mark_filled(s->tokens()).ok());
    ASSERT_TRUE(s->commit().ok());
  }
  EXPECT_EQ(m->blocks.size(), 48u);
  prompt.assign(40, 2);
  EXPECT_TRUE(cache->can_allocate(10));
  const result<sequence> refused = cache->open(prompt, "", plan);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, errc::out_of_blocks);
  EXPECT_NE(refused.error().message.find("10 more were given up"), std::string::npos)
      << refused.error().message;
  // What was given up is not given up again.
  EXPECT_FALSE(cache->open(prompt, "", plan).ok());
  EXPECT_EQ(cache->statistics().blocks_retiring, 10);
  m->reached = m->ticket = 1;
  result<sequence> s = cache->open(prompt, "", plan);
  ASSERT_TRUE(s.ok()) << s.error().message;
  EXPECT_EQ(cache->statistics().evicted_blocks, 10);
  EXPECT_EQ(cache->statistics().blocks_retiring, 0);
}

// Whoever has no readers any more when blocks are dropped keeps nobody waiting.
TEST(index_listener, what_retires_at_once_serves_the_prompt_that_it_was_given_up_for) {
  auto m = std::make_shared<mirror>();
  m->reached = 1000;  // beyond all tickets to come
  auto cache = kv_cache::create(options_with(m));
  for (token_id k = 0; k < 50; ++k) {
    step_plan plan;
    result<sequence> s = cache->open(std::vector<token_id>(40, k), "", plan);
    ASSERT_TRUE(s.ok()) << k << ": " << s.error().message;
    ASSERT_TRUE(s->mark_filled(s->tokens()).ok());
    ASSERT_TRUE(s->commit().ok());
  }
  EXPECT_GT(cache->statistics().evicted_blocks, 400);
}

}  // namespace
}  // namespace radixkv
