// The queue of an LRU against a list that is moved about in plain sight.
#include "csrc/core/eviction/recency_queue.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/eviction/lru.h"
#include "csrc/core/step_count.h"
#include "tests/core/eviction/random_load.h"

namespace radixkv {
namespace {

using detail::recency_queue;

// Nodes in order, and where the queue says that each of them is.
struct followed_queue {
  recency_queue queue;
  std::vector<node_id> order;
  std::vector<recency_queue::place> places;
  std::size_t most_moved = 0;

  explicit followed_queue(std::size_t nodes) : places(nodes, recency_queue::nowhere) {}
  void push(node_id n, bool front) {
    places[n] = front ? queue.push_front(n) : queue.push_back(n);
    order.insert(front ? order.begin() : order.end(), n);
  }
  void erase(std::size_t i) {
    const node_id n = order[i];
    order.erase(order.begin() + static_cast<std::ptrdiff_t>(i));
    std::size_t moved = 0;
    queue.erase(places[n], [&](node_id other, recency_queue::place p) {
      places[other] = p;
      ++moved;
    });
    places[n] = recency_queue::nowhere;
    most_moved = std::max(most_moved, moved);
  }
  void expect_same() const {
    std::vector<node_id> found;
    queue.for_each([&](node_id n, recency_queue::place p) {
      EXPECT_EQ(places[n], p) << "node " << n;
      found.push_back(n);
      return true;
    });
    ASSERT_EQ(found, order);
    ASSERT_EQ(queue.check(), "");
    ASSERT_EQ(queue.size(), order.size());
    if (order.empty()) return;
    EXPECT_EQ(queue.front(), order.front());
    EXPECT_EQ(queue.back(), order.back());
    for (const std::size_t skip : {std::size_t{0}, order.size() / 3, order.size()}) {
      std::vector<node_id> some(200, no_node);
      const std::size_t n = queue.copy(skip, some);
      ASSERT_EQ(n, std::min(some.size(), order.size() - skip));
      EXPECT_TRUE(std::equal(some.begin(), some.begin() + static_cast<std::ptrdiff_t>(n),
                             order.begin() + static_cast<std::ptrdiff_t>(skip)));
    }
  }
};

TEST(recency_queue, agrees_with_a_list) {
  for (const std::uint32_t seed : {1u, 2u, 3u, 4u}) {
    constexpr std::size_t nodes = 3000;
    followed_queue q(nodes);
    std::mt19937 random(seed);
    for (int step = 0; step < 40'000; ++step) {
      const auto n = static_cast<node_id>(random() % nodes);
      // Grows for a while, shrinks for a while; some seeds mostly at the ends.
      const bool grows = step / 5000 % 2 == 0;
      if (q.places[n] == recency_queue::nowhere ? grows || random() % 4 == 0 : false) {
        q.push(n, random() % 8 == 0);
      } else if (!q.order.empty()) {
        const std::size_t any = random() % q.order.size();
        q.erase(seed % 2 == 0 && random() % 2 == 0 ? 0 : any);
      }
      if (step % 500 == 0) {
        ASSERT_NO_FATAL_FAILURE(q.expect_same()) << "step " << step;
      }
    }
    EXPECT_LE(q.most_moved, recency_queue::chunk_entries / 2);
  }
}

TEST(recency_queue, holes_take_less_than_three_quarters) {
  constexpr std::size_t nodes = 100'000;
  followed_queue q(nodes);
  for (node_id n = 0; n < nodes; ++n) q.places[n] = q.queue.push_back(n);
  const std::size_t full = q.queue.bytes();
  EXPECT_LT(full, nodes * 5);
  std::mt19937 random(5);
  std::size_t left = nodes;
  while (left > nodes / 20) {
    const auto n = static_cast<node_id>(random() % nodes);
    if (q.places[n] == recency_queue::nowhere) continue;
    q.queue.erase(q.places[n], [&](node_id m, recency_queue::place p) { q.places[m] = p; });
    q.places[n] = recency_queue::nowhere;
    --left;
  }
  ASSERT_EQ(q.queue.check(), "");
  // 4 bytes an entry of which more than a quarter is in use, and what is kept of each chunk ever.
  EXPECT_LT(q.queue.bytes(), left * 16 + full / 20);
}

#if defined(RADIXKV_DEBUG_CHECKS)

// A tree whose every leaf was used again, in random order: what nobody wants any more of the first
// use must not be waiting for the first victim.
TEST(lru, no_victim_takes_longer_than_another) {
  constexpr std::uint32_t leaves = 20'000;
  detail::lru_policy policy;
  study::sim_tree tree(policy, leaves, 16);
  std::vector<std::uint32_t> ids(leaves);
  std::iota(ids.begin(), ids.end(), 0u);
  std::vector<const std::uint32_t*> order;
  for (const std::uint32_t& id : ids) order.push_back(&id);
  std::mt19937 random(6);
  for (int pass = 0; pass < 3; ++pass) {
    for (const std::uint32_t* id : order) tree.close(tree.open({id, 1, 1}), {});
    std::shuffle(order.begin(), order.end(), random);
  }
  ASSERT_EQ(tree.failure(), "");
  std::uint64_t most = 0;
  for (std::uint32_t i = 0; i < leaves / 2; ++i) {
    const std::uint64_t before = detail::steps_of_thread().nodes;
    const victim v = policy.next_victim();
    most = std::max(most, detail::steps_of_thread().nodes - before);
    ASSERT_NE(v.node, no_node);
    tree.evict(1);
  }
  EXPECT_EQ(most, 1u);
}

#endif

}  // namespace
}  // namespace radixkv
