// Histories of concurrent operations on tiny caches must be explained by some order of their
// effects that respects real time (linearisability: Herlihy and Wing 1990). The checker searches
// for that order depth first and remembers what failed (Wing and Gong 1993, Lowe 2017).
//
// The sequential model: a namespace holds a set of published prefixes over two tokens. commit adds
// a prefix; match returns the longest published prefix; clear, when nothing is open, empties it.
#include <array>
#include <atomic>
#include <cstdint>
#include <random>
#include <set>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"

namespace radixkv {
namespace {

// Prompts are the 14 non-empty words over {0, 1} of up to 3 tokens: bit i of a state says that word
// i is matchable.
constexpr int longest = 3;
using state = std::uint32_t;

int word_index(const std::vector<token_id>& word) {
  int at = 1;
  for (const token_id t : word) at = 2 * at + static_cast<int>(t);
  return at;  // 2 … 15
}

state with_prefixes(state s, const std::vector<token_id>& word) {
  int at = 1;
  for (const token_id t : word) {
    at = 2 * at + static_cast<int>(t);
    s |= 1u << at;
  }
  return s;
}

int longest_match(state s, const std::vector<token_id>& word) {
  int at = 1, depth = 0;
  for (const token_id t : word) {
    at = 2 * at + static_cast<int>(t);
    if (!(s >> at & 1)) break;
    ++depth;
  }
  return depth;
}

enum class kind : std::uint8_t { match, publish, clear };

struct operation {
  kind what = kind::match;
  std::vector<token_id> word;
  int result = 0;  // match: tokens
  std::uint64_t invoked = 0, returned = 0;
};

// True if the operation may happen in state s with the result it had; changes s.
bool apply(const operation& o, state& s) {
  switch (o.what) {
    case kind::match:
      return longest_match(s, o.word) == o.result;
    case kind::publish:
      s = with_prefixes(s, o.word);
      return true;
    default:
      s = 0;
      return true;
  }
}

bool search(const std::vector<operation>& history, std::uint32_t done, state s,
            std::set<std::pair<std::uint32_t, state>>& failed) {
  if (done + 1 == 1u << history.size()) return true;
  if (!failed.emplace(done, s).second) return false;
  // Next may be whatever was invoked before the first pending return.
  std::uint64_t first_return = UINT64_MAX;
  for (std::size_t i = 0; i < history.size(); ++i) {
    if (!(done >> i & 1)) first_return = std::min(first_return, history[i].returned);
  }
  for (std::size_t i = 0; i < history.size(); ++i) {
    if ((done >> i & 1) || history[i].invoked > first_return) continue;
    state next = s;
    if (apply(history[i], next) && search(history, done | 1u << i, next, failed)) return true;
  }
  return false;
}

bool linearisable(const std::vector<operation>& history) {
  std::set<std::pair<std::uint32_t, state>> failed;
  return search(history, 0, 0, failed);
}

TEST(linearisable, the_checker_tells_right_from_wrong) {
  const operation publish_01{kind::publish, {0, 1}, 0, 1, 2};
  EXPECT_TRUE(linearisable({publish_01, {kind::match, {0, 1, 1}, 2, 3, 4}}));
  EXPECT_FALSE(linearisable({publish_01, {kind::match, {0, 1, 1}, 0, 3, 4}}));  // lost
  EXPECT_FALSE(linearisable({publish_01, {kind::match, {0, 1, 1}, 3, 3, 4}}));  // invented
  EXPECT_FALSE(linearisable({{kind::match, {0, 1}, 2, 1, 2}, {kind::publish, {0, 1}, 0, 3, 4}}));
  // Overlapping: either order will do, but not first new, then old.
  const operation slow{kind::publish, {0, 1}, 0, 1, 10};
  EXPECT_TRUE(linearisable({slow, {kind::match, {0, 1}, 0, 2, 3}, {kind::match, {0, 1}, 2, 4, 5}}));
  EXPECT_FALSE(
      linearisable({slow, {kind::match, {0, 1}, 2, 2, 3}, {kind::match, {0, 1}, 0, 4, 5}}));
  EXPECT_TRUE(linearisable({publish_01,
                            {kind::clear, {}, 0, 3, 6},
                            {kind::match, {0, 1}, 2, 4, 5},
                            {kind::match, {0, 1}, 0, 7, 8}}));
}

std::vector<token_id> random_word(std::mt19937& random) {
  std::vector<token_id> w(1 + random() % longest);
  for (token_id& t : w) t = random() % 2;
  return w;
}

// One history: threads run a few operations each, on a cache of their own.
class history_maker {
 public:
  history_maker(unsigned threads, int operations_each) : records_(threads) {
    for (unsigned id = 0; id < threads; ++id) {
      threads_.emplace_back([this, id, operations_each] { work(id, operations_each); });
    }
  }
  ~history_maker() {
    quit_ = true;
    round_.fetch_add(1);
    round_.notify_all();
    for (std::thread& t : threads_) t.join();
  }
  history_maker(const history_maker&) = delete;
  history_maker& operator=(const history_maker&) = delete;

  std::vector<operation> make(kv_cache& cache, unsigned seed) {
    cache_ = &cache;
    seed_ = seed;
    clock_ = 1;
    left_ = static_cast<int>(records_.size());
    round_.fetch_add(1);
    round_.notify_all();
    for (int l = left_.load(); l != 0; l = left_.load()) left_.wait(l);
    std::vector<operation> all;
    for (const auto& r : records_) all.insert(all.end(), r.begin(), r.end());
    return all;
  }

 private:
  void work(unsigned id, int operations) {
    for (unsigned seen = 0;;) {
      round_.wait(seen);
      ++seen;
      if (quit_) return;
      std::mt19937 random(seed_ * 31 + id);
      std::vector<operation>& mine = records_[id];
      mine.clear();
      for (int i = 0; i < operations; ++i) one(random, mine);
      if (left_.fetch_sub(1) == 1) left_.notify_all();
    }
  }
  void one(std::mt19937& random, std::vector<operation>& mine) {
    operation o;
    o.word = random_word(random);
    const unsigned what = random() % 8;
    if (what < 4) {
      o.what = kind::match;
      o.invoked = clock_.fetch_add(1);
      if (random() % 2) std::this_thread::yield();  // so that operations overlap on one core, too
      o.result = static_cast<int>(cache_->match(o.word).tokens);
      o.returned = clock_.fetch_add(1);
    } else if (what < 7) {
      // Opening and closing are invisible to matches; publishing is not.
      step_plan plan;
      sequence s = cache_->open(o.word, "", plan).value();
      (void)s.mark_filled(s.tokens());
      o.what = kind::publish;
      o.invoked = clock_.fetch_add(1);
      if (random() % 2) std::this_thread::yield();
      const bool done = s.commit().ok();
      o.returned = clock_.fetch_add(1);
      EXPECT_TRUE(done);
      // Held until the round ends, so that what is published cannot go.
      std::lock_guard lock(held_mutex_);
      held_.push_back(std::move(s));
      mine.push_back(o);
      return;
    } else {
      cache_->evict(2);  // nothing published may go while it is held
      return;
    }
    mine.push_back(o);
  }

 public:
  std::vector<sequence> held_;

 private:
  std::mutex held_mutex_;
  std::vector<std::vector<operation>> records_;
  std::vector<std::thread> threads_;
  kv_cache* cache_ = nullptr;
  unsigned seed_ = 0;
  std::atomic<std::uint64_t> clock_{1};
  std::atomic<unsigned> round_{0};
  std::atomic<int> left_{0};
  std::atomic<bool> quit_{false};
};

// A commit that completes a partial tail, its own or another's, and goes on behind it: a match
// beside it finds the old length or the new one.
TEST(linearisable, a_completed_tail_comes_with_what_follows) {
#ifdef __SANITIZE_THREAD__
  constexpr int rounds = 1000;
#else
  constexpr int rounds = 20'000;
#endif
  cache_options o;
  o.blocks = 64;
  o.block_tokens = 4;
  o.min_prefix_tokens = 0;
  kv_cache cache = kv_cache::create(o).value();
  const std::vector<token_id> all{1, 2, 3, 4, 5, 6, 7};
  const std::span<const token_id> begin(all.data(), 2);
  std::atomic<int> turn{0};  // odd while a tail is being completed
  std::set<std::int64_t> found;
  std::atomic<int> within{0};  // matches that fell within a commit
  std::jthread reader([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      const int before = turn;
      const std::int64_t n = cache.match(all).tokens;
      if (before % 2 == 0 || turn != before) continue;
      found.insert(n);
      within.fetch_add(1);
    }
  });
  for (int round = 0; round < rounds || (within == 0 && round < 50 * rounds); ++round) {
    step_plan plan;
    sequence first = cache.open(begin, "", plan).value();
    ASSERT_TRUE(first.mark_filled(2));
    ASSERT_TRUE(first.commit());
    const bool own = round % 2 == 0;
    sequence other = own ? std::move(first) : cache.open(all, "", plan).value();
    if (own) {
      ASSERT_TRUE(other.append(std::span(all).subspan(2), plan));
    }
    ASSERT_TRUE(other.mark_filled(other.tokens()));
    turn.fetch_add(1);
    const bool done = other.commit().ok();
    turn.fetch_add(1);
    ASSERT_TRUE(done);
    other.release();
    if (!own) first.release();
    cache.clear();
  }
  reader.request_stop();
  reader.join();
  EXPECT_GT(within, 0);
  found.erase(2);
  found.erase(7);
  EXPECT_TRUE(found.empty()) << "found " << *found.begin() << " tokens";
}

TEST(linearisable, concurrent_matches_commits_and_evictions) {
#ifdef __SANITIZE_THREAD__
  constexpr unsigned histories = 300;
#else
  constexpr unsigned histories = 3000;
#endif
  cache_options o;
  o.blocks = 64;
  o.block_tokens = 2;
  o.min_prefix_tokens = 0;
  o.hash_bits = 8;
  kv_cache cache = kv_cache::create(o).value();
  history_maker maker(3, 4);
  int overlapping = 0;
  for (unsigned seed = 0; seed < histories; ++seed) {
    const std::vector<operation> history = maker.make(cache, seed);
    for (const operation& a : history) {
      for (const operation& b : history)
        overlapping += a.invoked < b.invoked && b.invoked < a.returned;
    }
    if (!linearisable(history)) {
      std::string text;
      for (const operation& x : history) {
        text += "\n" + std::string(x.what == kind::match ? "match " : "publish ") +
                std::to_string(word_index(x.word)) + " -> " + std::to_string(x.result) + " [" +
                std::to_string(x.invoked) + ", " + std::to_string(x.returned) + "]";
      }
      FAIL() << "history " << seed << " has no order that explains it:" << text;
    }
    maker.held_.clear();
    cache.clear();
    ASSERT_EQ(cache.statistics().blocks_free, 64);
  }
  EXPECT_EQ(cache.check_invariants(), "");
  EXPECT_GT(overlapping, 10);  // otherwise nothing was concurrent
}

}  // namespace
}  // namespace radixkv
