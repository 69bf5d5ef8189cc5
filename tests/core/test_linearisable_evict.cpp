// Concurrent histories of everything that changes what is cached (open, append, reserve, truncate,
// commit, fork, release, evict, clear) beside matches, in a pool so small that opening evicts and
// is refused: each must be explained by some order (index_history.h). Histories with a result that
// cannot have been are rejected.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/core/index_history.h"

namespace radixkv::testing {
namespace {

using kind = history_kind;

constexpr int pool = 10;
constexpr unsigned threads = 3;
constexpr int operations_each = 6;

struct handle {
  int id = 0;
  sequence kv;
  word text;
  int own = 0;  // blocks that are not the index's
};

// What one thread of a history does.
class tenant {
 public:
  // A tenant that remembers its matches answers from memory what it has asked before: a wrong
  // cache.
  tenant(kv_cache& cache, std::atomic<std::uint64_t>& clock, unsigned seed, unsigned id,
         bool remembers)
      : cache_(cache),
        clock_(clock),
        random_(seed),
        next_(static_cast<int>(100 * id)),
        remembers_(remembers) {}

  void run() {
    for (int i = 0; i < operations_each; ++i) one();
  }
  history records;

 private:
  unsigned below(unsigned n) { return static_cast<unsigned>(random_() % n); }
  template <typename Call>
  void record(history_operation o, Call&& call) {
    o.invoked = clock_.fetch_add(1);
    if (below(2)) std::this_thread::yield();  // so that operations overlap on one core, too
    o.result = call(o);
    o.returned = clock_.fetch_add(1);
    records.push_back(std::move(o));
  }

  void one() {
    const unsigned what = below(16);
    if (what < 4) return match();
    if (what < 6) return evict();
    if (what == 6 && below(2)) return clear();
    if (open_.empty() || (what < 9 && open_.size() < 3)) return open();
    handle& h = open_[below(static_cast<unsigned>(open_.size()))];
    switch (what) {
      case 9:
        return grow(h);
      case 10:
        return truncate(h);
      case 11:
        return fork(h);
      case 12:
      case 13:
        return release(h);
      default:
        return commit(h);
    }
  }
  word some_word() {
    word w(1 + below(longest_word));
    for (token_id& t : w) t = below(letters);
    return w;
  }
  void match() {
    history_operation o{kind::match};
    o.text = some_word();
    record(std::move(o), [&](history_operation& x) {
      const auto known = memory_.find(x.text);
      if (remembers_ && known != memory_.end()) return known->second;
      return memory_[x.text] = static_cast<int>(cache_.match(x.text).tokens);
    });
  }
  void open() {
    history_operation o{kind::open, next_, some_word()};
    step_plan plan;
    record(std::move(o), [&](history_operation& x) {
      result<sequence> s = cache_.open(x.text, "", plan);
      if (!s) {
        EXPECT_EQ(s.error().code, errc::out_of_blocks);
        return history_operation::refused;
      }
      const int served = static_cast<int>(s->cached_tokens());
      open_.push_back({next_, std::move(*s), x.text, static_cast<int>(x.text.size()) - served});
      return served;
    });
    if (!open_.empty() && open_.back().id == next_) fill(open_.back());
    ++next_;
  }
  static void fill(handle& h) { EXPECT_TRUE(h.kv.mark_filled(h.kv.tokens()).ok()); }
  void grow(handle& h) {
    if (h.text.size() == longest_word) return match();
    word longer = h.text;
    longer.push_back(below(letters));
    const bool decode = below(2) == 0;
    step_plan plan;
    record({kind::append, h.id, longer, 1}, [&](history_operation&) {
      const status s =
          decode ? h.kv.reserve(1, plan) : h.kv.append(std::span(longer).last(1), plan);
      if (s) return 0;
      EXPECT_EQ(s.error().code, errc::out_of_blocks);
      return history_operation::refused;
    });
    if (records.back().result == history_operation::refused) return;
    if (decode) {
      EXPECT_TRUE(h.kv.accept(std::span(longer).last(1)).ok());
    }
    fill(h);
    h.text = std::move(longer);
    ++h.own;
  }
  void truncate(handle& h) {
    const auto n = static_cast<std::size_t>(h.kv.committed_tokens());
    if (n == h.text.size() || n == 0) return match();
    const int back = static_cast<int>(h.text.size() - n);
    record(
        {kind::truncate, h.id, word(h.text.begin(), h.text.begin() + static_cast<long>(n)), back},
        [&](history_operation&) {
          EXPECT_TRUE(h.kv.truncate(static_cast<std::int64_t>(n)).ok());
          return 0;
        });
    h.text.resize(n);
    h.own -= back;
  }
  void commit(handle& h) {
    record({kind::commit, h.id, h.text}, [&](history_operation& x) {
      const result<commit_result> done = h.kv.commit();
      EXPECT_EQ(done.value().published_tokens, static_cast<std::int64_t>(x.text.size()));
      return static_cast<int>(done->new_blocks);
    });
    h.own -= records.back().result;
  }
  void fork(handle& h) {
    // Of one that shares nothing but the index's blocks.
    if (h.own != 0 || h.kv.committed_tokens() != h.kv.tokens()) return match();
    handle child{next_++, {}, h.text, 0};
    record({kind::fork, child.id, h.text}, [&](history_operation&) {
      child.kv = h.kv.fork().value();
      return 0;
    });
    open_.push_back(std::move(child));
  }
  void release(handle& h) {
    record({kind::release, h.id}, [&](history_operation&) {
      h.kv.release();
      return 0;
    });
    std::swap(h, open_.back());
    open_.pop_back();
  }
  void evict() {
    record({kind::evict, -1, {}, static_cast<int>(1 + below(3))},
           [&](history_operation& x) { return static_cast<int>(cache_.evict(x.blocks)); });
  }
  void clear() {
    record({kind::clear}, [&](history_operation&) { return static_cast<int>(cache_.clear()); });
  }

  kv_cache& cache_;
  std::atomic<std::uint64_t>& clock_;
  std::mt19937 random_;
  int next_;
  bool remembers_;
  std::map<word, int> memory_;
  std::vector<handle> open_;
};

kv_cache make_cache(const std::string& policy) {
  cache_options o;
  o.blocks = pool;
  o.block_tokens = 1;
  o.min_prefix_tokens = 0;
  o.hash_bits = 8;
  o.policy = policy;
  return kv_cache::create(std::move(o)).value();
}

history make_history(kv_cache& cache, unsigned seed, bool concurrent, bool remembers = false) {
  std::atomic<std::uint64_t> clock{1};
  std::atomic<unsigned> ready{0};
  std::vector<tenant> tenants;
  for (unsigned id = 0; id < threads; ++id) {
    tenants.emplace_back(cache, clock, seed * threads + id, id, remembers);
  }
  if (concurrent) {
    std::vector<std::thread> running;
    for (tenant& t : tenants) {
      running.emplace_back([&] {
        for (ready.fetch_add(1); ready.load() < threads;) std::this_thread::yield();
        t.run();
      });
    }
    for (std::thread& t : running) t.join();
  } else {
    for (tenant& t : tenants) t.run();
  }
  history all;
  for (const tenant& t : tenants) all.insert(all.end(), t.records.begin(), t.records.end());
  return all;
}

class linearisable_evict : public ::testing::TestWithParam<const char*> {};

TEST_P(linearisable_evict, concurrent_histories_have_an_order) {
#ifdef __SANITIZE_THREAD__
  constexpr unsigned histories = 150;
#else
  constexpr unsigned histories = 2500;
#endif
  kv_cache cache = make_cache(GetParam());
  int overlapping = 0, evicted = 0, refused = 0;
  for (unsigned seed = 0; seed < histories; ++seed) {
    const history h = make_history(cache, seed, true);
    for (const history_operation& a : h) {
      refused += a.result == history_operation::refused;
      evicted += a.what == kind::evict && a.result > 0;
      for (const history_operation& b : h) {
        overlapping += a.invoked < b.invoked && b.invoked < a.returned;
      }
    }
    ASSERT_TRUE(linearisable(h, pool)) << "history " << seed << to_text(h);
    cache.clear();
    ASSERT_EQ(cache.statistics().blocks_free, pool);
    ASSERT_EQ(cache.check_invariants(), "");
  }
  EXPECT_GT(overlapping, 100);  // otherwise nothing was concurrent
  EXPECT_GT(evicted, static_cast<int>(histories / 50));
  EXPECT_GT(refused, static_cast<int>(histories / 1000));
}

INSTANTIATE_TEST_SUITE_P(policies, linearisable_evict,
                         ::testing::Values("lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index"));

// One after the other nothing is left to chance: whatever result of a match is changed, or of an
// open, of a commit's new blocks, of a clear, no order explains it.
TEST(linearisable_evict_checker, rejects_every_mutated_result_of_a_sequential_history) {
  kv_cache cache = make_cache("lru");
  int mutated = 0;
  for (unsigned seed = 0; seed < 300; ++seed) {
    const history h = make_history(cache, seed, false);
    cache.clear();
    ASSERT_TRUE(linearisable(h, pool)) << seed << to_text(h);
    // What was evicted is for the model to guess, which leaves room for some wrong results.
    const bool certain = std::ranges::none_of(h, [](const history_operation& o) {
      return o.what == kind::evict || o.what == kind::clear ||
             o.result == history_operation::refused;
    });
    int own = 0;
    for (const history_operation& o : h) {
      if (o.what == kind::open) own += static_cast<int>(o.text.size());
      if (o.what == kind::append) own += o.blocks;
    }
    if (!certain || own > pool) continue;
    for (std::size_t i = 0; i < h.size(); ++i) {
      const kind what = h[i].what;
      if (what != kind::match && what != kind::open && what != kind::commit) continue;
      for (const int change : {-1, 1}) {
        history wrong = h;
        wrong[i].result += change;
        if (wrong[i].result < 0) continue;
        ++mutated;
        EXPECT_FALSE(linearisable(wrong, pool)) << "operation " << i << to_text(wrong);
      }
    }
  }
  EXPECT_GT(mutated, 50);
}

// Of concurrent ones most single mutations are rejected; what can never have been always is.
TEST(linearisable_evict_checker, rejects_what_was_never_there) {
  kv_cache cache = make_cache("lru");
  int mutated = 0, rejected = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    const history h = make_history(cache, seed, true);
    cache.clear();
    for (std::size_t i = 0; i < h.size(); ++i) {
      history wrong = h;
      if (h[i].what == kind::match) {
        ++wrong[i].result;
        ++mutated;
        rejected += !linearisable(wrong, pool);
        wrong[i].result = static_cast<int>(h[i].text.size()) + 1;
        EXPECT_FALSE(linearisable(wrong, pool));
      } else if (h[i].what == kind::evict) {
        wrong[i].result = h[i].blocks + 1;
        EXPECT_FALSE(linearisable(wrong, pool));
      } else if (h[i].what == kind::commit) {
        wrong[i].result = static_cast<int>(h[i].text.size()) + 1;
        EXPECT_FALSE(linearisable(wrong, pool));
      }
    }
  }
  EXPECT_GT(rejected, mutated / 2) << "of " << mutated;
}

// A cache whose readers see what was, not what is: some of its histories have no order.
TEST(linearisable_evict_checker, rejects_a_cache_with_stale_readers) {
  kv_cache cache = make_cache("lru");
  int rejected = 0;
  for (unsigned seed = 0; seed < 400; ++seed) {
    rejected += !linearisable(make_history(cache, seed, true, true), pool);
    cache.clear();
  }
  EXPECT_GT(rejected, 0);
}

}  // namespace
}  // namespace radixkv::testing
