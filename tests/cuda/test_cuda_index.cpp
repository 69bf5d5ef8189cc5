// The device index: updates and matches on several streams, against a map walked block by block.
#include <map>
#include <random>

#include "radixkv/cuda_index.h"
#include "tests/cuda/executor_test.h"
#include "tests/support/prefix_oracle.h"

namespace radixkv::testing {
namespace {

constexpr std::uint32_t block_tokens = 8;
constexpr std::int32_t namespaces = 2;

using tokens = std::vector<token_id>;

// An index and an oracle that change together; the oracle of the last update is kept.
class index_pair {
 public:
  index_pair(std::int64_t blocks, const cuda_index_options& options, std::uint32_t seed)
      : index(cuda_index::create(options).value()), random(seed) {
    for (block_id b = 0; b < blocks; ++b) free_.push_back(b);
  }

  // Adds a block below a random one, with tokens of a small alphabet that its siblings do not have.
  void add() {
    if (free_.empty()) return;
    std::int32_t parent = -1 - static_cast<std::int32_t>(random() % namespaces);
    if (!nodes_.empty() && random() % 8 != 0) {
      parent = std::next(nodes_.begin(), static_cast<long>(random() % nodes_.size()))->first;
    }
    tokens t(block_tokens);
    for (token_id& x : t) x = random() % 2;
    if (now_.find(parent, t) >= 0) return;
    const block_id block = free_.back();
    free_.pop_back();
    const status s = index.add(block, std::max(parent, no_block), parent < 0 ? -1 - parent : 0, t);
    ASSERT_TRUE(s.ok()) << s.error().message;
    now_.add(block, parent, t);
    nodes_[block] = {parent, t, 0};
    if (parent >= 0) ++nodes_[parent].children;
  }

  // Removes a random leaf. Its id may be used again at once: tables have tokens of their own.
  void remove() {
    if (nodes_.empty()) return;
    auto leaf = std::next(nodes_.begin(), static_cast<long>(random() % nodes_.size()));
    while (leaf->second.children > 0) {
      if (++leaf == nodes_.end()) leaf = nodes_.begin();
    }
    const auto removed = index.remove(leaf->first);
    ASSERT_TRUE(removed.ok()) << removed.error().message;
    EXPECT_EQ(*removed, index.published() + 1);
    now_.remove(leaf->second.parent, leaf->second.own);
    if (leaf->second.parent >= 0) --nodes_[leaf->second.parent].children;
    free_.push_back(leaf->first);
    nodes_.erase(leaf);
  }

  void update(cudaStream_t stream) {
    status s = index.update(stream);
    while (!s && s.error().code == errc::busy) s = index.update(stream);
    ASSERT_TRUE(s.ok()) << s.error().message;
    shown = now_;
  }

  // A cached path, cut or continued at random.
  tokens prompt(std::int32_t& name_space) {
    tokens t;
    name_space = static_cast<std::int32_t>(random() % namespaces);
    if (!nodes_.empty()) {
      auto at = std::next(nodes_.begin(), static_cast<long>(random() % nodes_.size()))->first;
      while (at >= 0) {
        t.insert(t.begin(), nodes_[at].own.begin(), nodes_[at].own.end());
        at = nodes_[at].parent;
      }
      if (random() % 4) name_space = -1 - at;
    }
    for (std::size_t i = random() % 20; i > 0; --i) t.push_back(random() % 2);
    if (random() % 4 == 0) t.resize(random() % (t.size() + 1));
    if (random() % 4 == 0 && !t.empty()) t[random() % t.size()] ^= 1;
    return t;
  }

  cuda_index index;
  std::mt19937 random;
  prefix_oracle shown{block_tokens};

 private:
  struct node {
    std::int32_t parent;
    tokens own;
    int children;
  };
  prefix_oracle now_{block_tokens};
  std::map<block_id, node> nodes_;
  std::vector<block_id> free_;
};

// Device memory of one match, allocated once: allocating and uploading would wait for the device
// and hide a missing order.
struct match_memory {
  static constexpr std::size_t max_prompts = 64, max_tokens = 1 << 14;
  device_array<token_id> prompts{max_tokens};
  device_array<std::int64_t> offsets{max_prompts + 1};
  device_array<std::int32_t> spaces{max_prompts};
  device_array<std::int32_t> matched{max_prompts};
  device_array<block_id> table{max_tokens / block_tokens};
};

// A match in flight, and what it must give.
class pending_match {
 public:
  pending_match(index_pair& pair, std::size_t prompts, cudaStream_t stream, match_memory& memory)
      : stream_(stream), memory_(memory) {
    std::vector<std::int32_t> spaces(prompts);
    offsets_.push_back(0);
    tokens all;
    for (std::int32_t& space : spaces) {
      const tokens t = pair.prompt(space);
      expected_.push_back(pair.shown.match(t, space));
      all.insert(all.end(), t.begin(), t.end());
      offsets_.push_back(static_cast<std::int64_t>(all.size()));
    }
    send(memory.prompts.data(), all);
    send(memory.offsets.data(), offsets_);
    send(memory.spaces.data(), spaces);
    const auto ticket =
        pair.index.match(stream, {.tokens = memory.prompts.data(),
                                  .offsets = memory.offsets.data(),
                                  .namespace_ids = memory.spaces.data(),
                                  .prompts = static_cast<std::uint32_t>(prompts),
                                  .token_count = static_cast<std::int64_t>(all.size()),
                                  .matched_blocks = memory.matched.data(),
                                  .block_table = memory.table.data()});
    EXPECT_TRUE(ticket.ok()) << ticket.error().message;
    if (ticket.ok()) ticket_ = *ticket;
  }

  void finish(index_pair& pair) { RADIXKV_ASSERT_OK(pair.index.finish(stream_, ticket_)); }

  // Waits for the stream. Adds the matched blocks to `hits`.
  void check(std::int64_t& hits) {
    require_cuda(cudaStreamSynchronize(stream_));
    const auto matched = memory_.matched.download(0, expected_.size());
    for (std::size_t p = 0; p < expected_.size(); ++p) {
      ASSERT_EQ(matched[p], static_cast<std::int32_t>(expected_[p].size())) << "prompt " << p;
      hits += matched[p];
      if (matched[p] == 0) continue;
      const auto row = memory_.table.download(static_cast<std::size_t>(offsets_[p]) / block_tokens,
                                              static_cast<std::size_t>(matched[p]));
      ASSERT_EQ(row, expected_[p]) << "prompt " << p;
    }
  }

 private:
  template <class T>
  void send(T* device, const std::vector<T>& host) {
    require_cuda(cudaMemcpyAsync(device, host.data(), host.size() * sizeof(T),
                                 cudaMemcpyHostToDevice, stream_));
  }

  cudaStream_t stream_;
  match_memory& memory_;
  std::uint64_t ticket_ = 0;
  std::vector<std::int64_t> offsets_;
  std::vector<std::vector<std::int32_t>> expected_;
};

cuda_index_options small_options() {
  return {.blocks = 300,
          .block_tokens = block_tokens,
          .max_prompts = 64,
          .max_prompt_tokens = 1 << 14,
          .staging_bytes = 128 << 10,
          .matches_in_flight = 8};
}

TEST(cuda_index, matches_see_the_last_update_whatever_overlaps) {
  for (const std::uint32_t hash_bits : {62u, 10u}) {
    cuda_index_options options = small_options();
    options.hash_bits = hash_bits;
    index_pair pair(options.blocks, options, hash_bits);
    test_stream updates, matches[2];
    match_memory memory[6];
    std::vector<std::unique_ptr<pending_match>> flying;
    std::int64_t hits = 0;
    for (int step = 0; step < 60; ++step) {
      for (std::size_t i = pair.random() % 12; i > 0; --i)
        pair.random() % 3 ? pair.add() : pair.remove();
      if (pair.random() % 2) pair.update(updates);
      flying.push_back(std::make_unique<pending_match>(
          pair, 1 + pair.random() % 6, matches[pair.random() % 2], memory[flying.size()]));
      flying.back()->finish(pair);
      if (flying.size() == 6) {
        for (auto& m : flying) m->check(hits);
        flying.clear();
        RADIXKV_ASSERT_OK(pair.index.synchronize());
      }
    }
    for (auto& m : flying) m->check(hits);
    EXPECT_GT(hits, 300);
    EXPECT_EQ(pair.index.check_invariants(), "");
  }
}

TEST(cuda_index, a_removed_block_retires_after_the_matches_before_it) {
  index_pair pair(300, small_options(), 3);
  test_stream updates, stream;
  for (int i = 0; i < 20; ++i) pair.add();
  EXPECT_EQ(pair.index.published(), 0u);
  pair.update(updates);
  EXPECT_EQ(pair.index.published(), 1u);
  EXPECT_EQ(pair.index.retired().value(), 1u);

  std::int64_t hits = 0;
  match_memory memory;
  pending_match match(pair, 4, stream, memory);
  pair.remove();
  pair.update(updates);
  RADIXKV_ASSERT_OK(pair.index.synchronize());
  match.check(hits);
  EXPECT_EQ(pair.index.published(), 2u);
  EXPECT_EQ(pair.index.retired().value(), 1u);  // the match is done, but its result may be in use
  match.finish(pair);
  stream.synchronize();
  EXPECT_EQ(pair.index.retired().value(), 2u);
  pair.update(updates);  // nothing to publish
  EXPECT_EQ(pair.index.published(), 2u);
  expect_refused(pair.index.finish(stream, 1), errc::not_found, "ticket 1");
}

TEST(cuda_index, an_update_larger_than_the_staging_goes_on_where_it_stopped) {
  cuda_index_options options = small_options();
  options.blocks = 40'000;
  index_pair pair(options.blocks, options, 4);
  test_stream updates, stream;
  match_memory memory[3];
  int busy = 0;
  std::int64_t hits = 0;
  for (int round = 0; round < 3; ++round) {
    // Chains and bushes: more than the 128 KiB of staging.
    for (int i = 0; i < 3000; ++i) pair.add();
    for (int i = 0; i < 200; ++i) pair.remove();
    pending_match before(pair, 8, stream, memory[0]);
    for (status s = pair.index.update(updates); !s; s = pair.index.update(updates)) {
      expect_refused(s, errc::busy, "update again");
      if (++busy % 64 != 1) continue;
      pending_match meanwhile(pair, 8, stream, memory[1]);  // still reads the state before
      meanwhile.finish(pair);
      meanwhile.check(hits);
    }
    pair.update(updates);
    pending_match after(pair, 8, stream, memory[2]);
    before.finish(pair);
    after.finish(pair);
    before.check(hits);
    after.check(hits);
  }
  const char* mode = std::getenv("CUDASIM_ASYNC");
  if (mode != nullptr && std::string(mode) == "lazy") {
    EXPECT_GT(busy, 0);
  }
}

TEST(cuda_index, bad_input_changes_nothing) {
  const auto create = [](auto change) {
    cuda_index_options o = small_options();
    change(o);
    return cuda_index::create(o);
  };
  expect_refused(create([](auto& o) { o.blocks = 0; }), errc::invalid_argument, "blocks 0");
  expect_refused(create([](auto& o) { o.blocks = max_blocks + 1; }), errc::invalid_argument,
                 "blocks 1073741825");
  expect_refused(create([](auto& o) { o.block_tokens = 24; }), errc::invalid_argument, "24");
  expect_refused(create([](auto& o) { o.max_prompts = 0; }), errc::invalid_argument, "prompts 0");
  expect_refused(create([](auto& o) { o.max_prompt_tokens = -1; }), errc::invalid_argument,
                 "max_prompt_tokens");
  expect_refused(create([](auto& o) { o.staging_bytes = 1; }), errc::invalid_argument, "131072");
  expect_refused(create([](auto& o) { o.matches_in_flight = 0; }), errc::invalid_argument,
                 "flight");

  cuda_index index = cuda_index::create(small_options()).value();
  test_stream stream;
  const tokens t(block_tokens, 5);
  RADIXKV_ASSERT_OK(index.add(7, no_block, 0, t));
  expect_refused(index.add(7, no_block, 0, t), errc::invalid_argument, "7");
  expect_refused(index.add(300, 7, 0, t), errc::invalid_argument, "300");
  expect_refused(index.add(-1, 7, 0, t), errc::invalid_argument, "-1");
  expect_refused(index.add(8, 9, 0, t), errc::invalid_argument, "9");
  expect_refused(index.add(8, -2, 0, t), errc::invalid_argument, "-2");
  expect_refused(index.add(8, no_block, -1, t), errc::invalid_argument, "namespace id -1");
  expect_refused(index.add(8, 7, 0, std::span(t).first(3)), errc::invalid_argument, "3");
  expect_refused(index.remove(8), errc::not_found, "8");
  RADIXKV_ASSERT_OK(index.add(8, 7, 0, t));
  expect_refused(index.remove(7), errc::invalid_argument, "7");
  EXPECT_EQ(index.size(), 2);
  EXPECT_EQ(index.check_invariants(), "");

  device_array<token_id> prompt(t);
  device_array<std::int64_t> offsets(std::vector<std::int64_t>{0, block_tokens});
  device_array<std::int32_t> matched(1);
  device_array<block_id> table(1);
  const cuda_match_batch good{.tokens = prompt.data(),
                              .offsets = offsets.data(),
                              .prompts = 1,
                              .token_count = block_tokens,
                              .matched_blocks = matched.data(),
                              .block_table = table.data()};
  const auto match = [&](auto change) {
    cuda_match_batch b = good;
    change(b);
    return index.match(stream, b);
  };
  expect_refused(match([](auto& b) { b.tokens = nullptr; }), errc::invalid_argument, "null tokens");
  expect_refused(match([](auto& b) { b.offsets = nullptr; }), errc::invalid_argument, "offsets");
  expect_refused(match([](auto& b) { b.matched_blocks = nullptr; }), errc::invalid_argument,
                 "null");
  expect_refused(match([](auto& b) { b.block_table = nullptr; }), errc::invalid_argument, "null");
  expect_refused(match([](auto& b) { b.prompts = 65; }), errc::invalid_argument, "limit is 64");
  expect_refused(match([](auto& b) { b.token_count = -1; }), errc::invalid_argument, "-1");
  expect_refused(match([](auto& b) { b.token_count = 1 << 15; }), errc::invalid_argument, "16384");
  expect_refused(
      match([](auto& b) { b.matched_blocks = (std::int32_t*)((char*)b.matched_blocks + 1); }),
      errc::invalid_argument, "match: ");
  // As many matches as may be in flight, and one more.
  std::vector<std::uint64_t> tickets;
  for (int i = 0; i < 8; ++i) tickets.push_back(match([](auto&) {}).value());
  expect_refused(match([](auto&) {}), errc::busy, "the limit is 8");
  for (const std::uint64_t ticket : tickets) RADIXKV_ASSERT_OK(index.finish(stream, ticket));
  stream.synchronize();
  EXPECT_EQ(matched.download()[0], 0);  // nothing was published yet
  RADIXKV_ASSERT_OK(index.update(stream));
  const auto ticket = match([](auto&) {});
  ASSERT_TRUE(ticket.ok()) << ticket.error().message;
  RADIXKV_ASSERT_OK(index.finish(stream, *ticket));
  stream.synchronize();
  EXPECT_EQ(matched.download()[0], 1);
  EXPECT_EQ(table.download()[0], 7);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace radixkv::testing
