// Page tables kept by cuda_page_tables, against tables built from the sequences on the host.
#include <random>

#include "radixkv/cuda_page_tables.h"
#include "tests/cuda/executor_test.h"

namespace radixkv::testing {
namespace {

constexpr std::int32_t rows = 12, row_blocks = 20, block_tokens = 4, batch = 8;

struct sequence_model {
  std::vector<block_id> table;
  std::int64_t tokens = 0;
  [[nodiscard]] std::int64_t blocks() const { return (tokens + block_tokens - 1) / block_tokens; }
};

cuda_page_tables_options options() {
  return {.rows = rows,
          .row_blocks = row_blocks,
          .block_tokens = block_tokens,
          .max_batch = batch,
          .staging_slots = 3,
          .slot_changes = 17};  // more bytes than a batch's rows, fewer than a sequence's blocks
}

// A call again and again while staging is in flight.
template <class Call>
void until_done(Call call) {
  status s = call();
  while (!s && s.error().code == errc::busy) s = call();
  ASSERT_TRUE(s.ok()) << s.error().message;
}

TEST(cuda_page_tables, random_sequences) {
  std::mt19937 random(41);
  cuda_page_tables tables = cuda_page_tables::create(options()).value();
  std::vector<sequence_model> sequences(rows);
  test_stream streams[2];
  device_array<std::int32_t> dense(batch * row_blocks), indptr(batch + 1), last(batch),
      indices(batch * row_blocks);
  for (int step = 0; step < 80; ++step) {
    for (std::size_t i = random() % 5; i > 0; --i) {
      const std::size_t row = random() % rows;
      sequence_model& s = sequences[row];
      std::int32_t unchanged = 0;
      switch (random() % 3) {
        case 0:  // another sequence
          s.table.clear();
          s.tokens = random() % (row_blocks * block_tokens + 1);
          break;
        case 1:  // grows; the engine knows what it has sent
          unchanged = static_cast<std::int32_t>(s.blocks());
          s.tokens = std::min<std::int64_t>(s.tokens + random() % 9, row_blocks * block_tokens);
          break;
        default:  // its last block is copied before it is written
          if (!s.table.empty()) s.table.back() = static_cast<block_id>(random() % 1000);
      }
      while (static_cast<std::int64_t>(s.table.size()) < s.blocks() + (random() % 2 ? 1 : 0)) {
        s.table.push_back(static_cast<block_id>(random() % 1000));
      }
      RADIXKV_ASSERT_OK(tables.set(static_cast<std::int32_t>(row), s.table, s.tokens, unchanged));
    }
    until_done([&] { return tables.update(streams[random() % 2]); });
    std::vector<std::int32_t> chosen(random() % (batch + 1));
    for (std::int32_t& row : chosen) row = static_cast<std::int32_t>(random() % (rows + 1)) - 1;
    const std::int32_t width = 1 + static_cast<std::int32_t>(random() % row_blocks);
    const cudaStream_t stream = streams[random() % 2];
    until_done([&] { return tables.dense(stream, chosen, dense.data(), row_blocks, width, -7); });
    until_done([&] {
      return tables.csr(stream, chosen, indptr.data(), indices.data(), batch * row_blocks,
                        last.data());
    });
    if (step % 4 != 3) continue;
    RADIXKV_ASSERT_OK(tables.synchronize());
    std::int32_t begin = 0;
    EXPECT_EQ(indptr.download(0, 1)[0], 0);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const sequence_model s =
          chosen[i] < 0 ? sequence_model{} : sequences[static_cast<std::size_t>(chosen[i])];
      const auto blocks = static_cast<std::int32_t>(s.blocks());
      std::vector<std::int32_t> row(s.table.begin(), s.table.begin() + blocks);
      EXPECT_EQ(indptr.download(i + 1, 1)[0], begin + blocks);
      EXPECT_EQ(indices.download(static_cast<std::size_t>(begin), row.size()), row);
      EXPECT_EQ(last.download(i, 1)[0], s.tokens == 0 ? 0 : (s.tokens - 1) % block_tokens + 1);
      begin += blocks;
      row.resize(static_cast<std::size_t>(width), -7);
      EXPECT_EQ(dense.download(i * row_blocks, row.size()), row) << "row " << chosen[i];
    }
  }
}

// Changes of a row between two updates add up, whichever comes first.
TEST(cuda_page_tables, a_row_set_twice_sends_what_both_changed) {
  cuda_page_tables tables = cuda_page_tables::create(options()).value();
  test_stream stream;
  device_array<std::int32_t> out(6);
  std::vector<block_id> table{1, 2, 3, 4, 5, 6};
  RADIXKV_ASSERT_OK(tables.set(2, table, 24));
  RADIXKV_ASSERT_OK(tables.update(stream));
  for (const auto& [first, second] : {std::pair{1, 4}, {4, 1}}) {
    for (const auto block : {first, second}) {
      table[static_cast<std::size_t>(block)] += 100;
      RADIXKV_ASSERT_OK(tables.set(2, table, 24));
    }
    until_done([&] { return tables.update(stream); });
    until_done(
        [&] { return tables.dense(stream, std::vector<std::int32_t>{2}, out.data(), 6, 6, -1); });
    RADIXKV_ASSERT_OK(tables.synchronize());
    EXPECT_EQ(out.download(), std::vector<std::int32_t>(table.begin(), table.end()));
  }
}

// CUB takes the thread's last error for its own.
TEST(cuda_page_tables, what_others_left_as_last_error_fails_nothing) {
  leave_last_error();
  auto made = cuda_page_tables::create(options());
  ASSERT_TRUE(made.ok()) << made.error().message;
  test_stream stream;
  device_array<std::int32_t> indptr(2), indices(4), last(1);
  RADIXKV_ASSERT_OK(made->set(3, std::vector<block_id>{7, 8}, 5));
  RADIXKV_ASSERT_OK(made->update(stream));
  leave_last_error();
  RADIXKV_ASSERT_OK(made->csr(stream, std::vector<std::int32_t>{3}, indptr.data(), indices.data(),
                              4, last.data()));
  RADIXKV_ASSERT_OK(made->synchronize());
  (void)cudaGetLastError();
  EXPECT_EQ(indptr.download(), (std::vector<std::int32_t>{0, 2}));
  EXPECT_EQ(indices.download(0, 2), (std::vector<std::int32_t>{7, 8}));
  EXPECT_EQ(last.download()[0], 1);
}

TEST(cuda_page_tables, bad_input_changes_nothing) {
  const auto create = [](auto change) {
    cuda_page_tables_options o = options();
    change(o);
    return cuda_page_tables::create(o);
  };
  expect_refused(create([](auto& o) { o.rows = 0; }), errc::invalid_argument, "rows 0");
  expect_refused(create([](auto& o) { o.row_blocks = -1; }), errc::invalid_argument, "blocks -1");
  expect_refused(create([](auto& o) { o.block_tokens = 0; }), errc::invalid_argument, "tokens 0");
  expect_refused(create([](auto& o) { o.max_batch = 0; }), errc::invalid_argument, "batch 0");
  expect_refused(create([](auto& o) { o.slot_changes = 0; }), errc::invalid_argument, "changes 0");
  expect_refused(create([](auto& o) { o.rows = 1 << 20, o.row_blocks = 1 << 20; }),
                 errc::invalid_argument, "rows × row_blocks 1099511627776");

  cuda_page_tables tables = cuda_page_tables::create(options()).value();
  test_stream stream;
  const std::vector<block_id> table{3, 4};
  expect_refused(tables.set(12, table, 5), errc::invalid_argument, "row 12 is not in [0, 11]");
  expect_refused(tables.set(-1, table, 5), errc::invalid_argument, "row -1");
  expect_refused(tables.set(0, table, 9), errc::invalid_argument, "need 3 blocks, the table has 2");
  expect_refused(tables.set(0, table, 81), errc::invalid_argument, "tokens 81 is not in [0, 80]");
  expect_refused(tables.set(0, table, 5, 3), errc::invalid_argument, "unchanged 3");
  expect_refused(tables.set(0, std::vector<block_id>{-1}, 1), errc::invalid_argument, "block -1");
  expect_refused(tables.set(0, std::vector<block_id>{1 << 30}, 1), errc::invalid_argument,
                 "block 1073741824 is not in [0, 1073741823]");
  device_array<std::int32_t> out(64);
  const std::vector<std::int32_t> chosen{0};
  RADIXKV_ASSERT_OK(tables.dense(stream, chosen, out.data(), 4, 4, -1));
  expect_refused(tables.dense(stream, std::vector<std::int32_t>{12}, out.data(), 4, 4, -1),
                 errc::invalid_argument, "row 12");
  expect_refused(tables.dense(stream, std::vector<std::int32_t>(9), out.data(), 4, 4, -1),
                 errc::invalid_argument, "batch 9");
  expect_refused(tables.dense(stream, chosen, nullptr, 4, 4, -1), errc::invalid_argument, "dense");
  expect_refused(tables.dense(stream, chosen, out.data(), 3, 4, -1), errc::invalid_argument,
                 "dense");
  RADIXKV_ASSERT_OK(tables.synchronize());
  expect_refused(tables.csr(stream, chosen, nullptr, out.data(), 4, out.data() + 8),
                 errc::invalid_argument, "CSR");
  RADIXKV_ASSERT_OK(tables.synchronize());
  EXPECT_EQ(out.download(0, 4), (std::vector<std::int32_t>{-1, -1, -1, -1}));
  RADIXKV_ASSERT_OK(tables.set(0, table, 5));
  expect_refused(tables.dense(stream, chosen, out.data(), 4, 4, -1), errc::invalid_argument,
                 "1 rows were set and not updated");
}

// More bytes in a batch's rows than in a slot's changes, in every slot of the ring at once.
TEST(cuda_page_tables, slots_hold_whole_batches_where_changes_are_few) {
  constexpr std::uint32_t many = 256, slots = 3;
  cuda_page_tables tables = cuda_page_tables::create({.rows = slots,
                                                      .row_blocks = 1,
                                                      .block_tokens = 1,
                                                      .max_batch = many,
                                                      .staging_slots = slots,
                                                      .slot_changes = 1})
                                .value();
  test_stream stream;
  device_array<std::int32_t> out(slots * many);
  std::vector<std::int32_t> wanted;
  for (std::int32_t row = 0; row < static_cast<std::int32_t>(slots); ++row) {
    RADIXKV_ASSERT_OK(tables.set(row, std::vector<block_id>{10 + row}, 1));
    wanted.insert(wanted.end(), many, 10 + row);
  }
  RADIXKV_ASSERT_OK(tables.update(stream));
  RADIXKV_ASSERT_OK(tables.synchronize());
  for (std::size_t row = 0; row < slots; ++row) {
    const std::vector<std::int32_t> chosen(many, static_cast<std::int32_t>(row));
    RADIXKV_ASSERT_OK(tables.dense(stream, chosen, out.data() + row * many, 1, 1, -1));
  }
  RADIXKV_ASSERT_OK(tables.synchronize());
  EXPECT_EQ(out.download(), wanted);
}

// A batch whose blocks int32 cannot count is refused by csr alone, which says so.
TEST(cuda_page_tables, csr_names_what_it_cannot_count) {
  cuda_page_tables tables =
      cuda_page_tables::create({.rows = 2, .row_blocks = 8192, .max_batch = 300'000}).value();
  test_stream stream;
  device_array<std::int32_t> out(300'001);
  expect_refused(tables.csr(stream, std::vector<std::int32_t>(262'144, -1), out.data(), out.data(),
                            1, out.data()),
                 errc::invalid_argument,
                 "rows of the batch × row_blocks 2147483648 is not in [0, 2147483647]");
  expect_refused(tables.csr(stream, std::vector<std::int32_t>(300'001, -1), out.data(), out.data(),
                            1, out.data()),
                 errc::invalid_argument, "batch 300001 is not in [0, 300000]");
  RADIXKV_ASSERT_OK(tables.synchronize());
}

}  // namespace
}  // namespace radixkv::testing
