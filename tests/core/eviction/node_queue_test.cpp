// Queues of nodes in order of tick, and heaps, against a sorted map.
#include "csrc/core/eviction/node_queue.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/eviction/node_heap.h"

namespace radixkv {
namespace {

using detail::node_heap;
using detail::node_queue;

// Who has which tick, what the queue says of their places, and the most that had to move at once.
struct followed_nodes {
  std::vector<std::uint32_t> ticks;
  std::vector<node_queue::place> places;
  std::size_t moves = 0;
  std::size_t most_moves = 0;

  explicit followed_nodes(std::size_t n) : ticks(n), places(n, node_queue::nowhere) {}
  auto tick_of() const {
    return [this](node_id n) { return ticks[n]; };
  }
  auto moved() {
    return [this](node_id n, node_queue::place p) {
      places[n] = p;
      most_moves = std::max(most_moves, ++moves);
    };
  }
};

TEST(node_queue, agrees_with_a_sorted_map_whatever_comes_and_goes) {
  constexpr std::size_t nodes = 5000;
  for (const std::uint32_t out_of_order : {0u, 5u, 50u, 100u}) {
    std::mt19937 random(out_of_order);
    node_queue queue;
    followed_nodes all(nodes);
    std::map<std::uint32_t, node_id> order;
    std::vector<node_id> outside(nodes);
    for (node_id n = 0; n < nodes; ++n) outside[n] = n;
    std::uint32_t last = 1u << 20;
    const auto erase = [&](node_id n) {
      all.moves = 0;
      queue.erase(all.places[n], all.moved());
      all.places[n] = node_queue::nowhere;
      order.erase(all.ticks[n]);
      outside.push_back(n);
    };
    for (int i = 0; i < 60'000; ++i) {
      const bool grows = order.size() < nodes / 2 + (i / 10'000 % 2 == 0 ? nodes / 3 : 0);
      if (!outside.empty() && (grows || order.empty())) {
        const std::size_t k = random() % outside.size();
        const node_id n = outside[k];
        outside[k] = outside.back();
        outside.pop_back();
        const bool between = random() % 100 < out_of_order;
        std::uint32_t tick = 0;
        do {
          tick = between ? static_cast<std::uint32_t>(random() % last) : ++last;
        } while (order.contains(tick));
        all.ticks[n] = tick;
        all.moves = 0;
        all.places[n] = queue.insert(n, tick, all.tick_of(), all.moved());
        ASSERT_NE(all.places[n], node_queue::nowhere);
        order.emplace(tick, n);
      } else if (random() % 2 == 0) {
        ASSERT_EQ(queue.front(all.tick_of()), order.begin()->second);
        erase(order.begin()->second);
      } else {
        auto any = order.lower_bound(random() % last);
        if (any == order.end()) any = order.begin();
        erase(any->second);
      }
      ASSERT_EQ(queue.size(), order.size());
      if (!order.empty()) {
        ASSERT_EQ(queue.front(all.tick_of()), order.begin()->second);
      }
      if (i % 500 != 0) continue;
      ASSERT_EQ(queue.check(all.tick_of(),
                            [&](node_id n, node_queue::place p) { return all.places[n] == p; }),
                "");
    }
    // Two chunks of the queue become one, or a path of the heap is gone along.
    EXPECT_LE(all.most_moves, detail::recency_queue::chunk_entries);
    while (!order.empty()) {
      ASSERT_EQ(queue.front(all.tick_of()), order.begin()->second);
      erase(order.begin()->second);
    }
    EXPECT_TRUE(queue.empty());
  }
}

TEST(node_heap, agrees_with_a_sorted_map_and_moves_the_logarithm) {
  struct entry {
    std::uint32_t key;
    node_id node;
    bool is_before(const entry& o) const { return key < o.key; }
  };
  constexpr std::size_t nodes = 4096;
  std::mt19937 random(7);
  node_heap<entry> heap;
  followed_nodes all(nodes);
  std::map<std::uint32_t, node_id> order;
  for (int i = 0; i < 50'000; ++i) {
    const node_id n = random() % nodes;
    all.moves = 0;
    if (all.places[n] == node_queue::nowhere) {
      do {
        all.ticks[n] = random();
      } while (order.contains(all.ticks[n]));
      ASSERT_TRUE(heap.insert({all.ticks[n], n}, all.moved()));
      order.emplace(all.ticks[n], n);
    } else {
      heap.erase(all.places[n], all.moved());
      all.places[n] = node_queue::nowhere;
      order.erase(all.ticks[n]);
    }
    ASSERT_EQ(heap.size(), order.size());
    if (!order.empty()) {
      ASSERT_EQ(heap.front().node, order.begin()->second);
    }
    if (i % 1000 == 0) {
      ASSERT_TRUE(heap.sound([&](const entry& e, std::size_t at) {
        return all.places[e.node] == at && all.ticks[e.node] == e.key;
      }));
    }
  }
  EXPECT_LE(all.most_moves, 13u);
}

}  // namespace
}  // namespace radixkv
