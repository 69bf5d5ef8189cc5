// What tests of the CUDA executor share: layouts, random plans, and whole pools as bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "radixkv/cuda_executor.h"
#include "radixkv/host_executor.h"
#include "tests/cuda/cuda_test.h"

namespace radixkv::testing {

using bytes = std::vector<std::byte>;

inline memory_layout small_layout(std::int64_t blocks = 24) {
  memory_layout l = layout_hnd(
      {.blocks = blocks, .block_tokens = 4, .layers = 2, .heads = 3, .head_bytes = 24, .kv = 2});
  l.logits_rows = 6;
  l.vocabulary = 37;
  return l;
}

inline bytes random_bytes(std::size_t size, std::mt19937& random) {
  bytes b(size);
  for (std::byte& x : b) x = static_cast<std::byte>(random());
  return b;
}

// Plans with chains, repeated sources and cycles; destinations may be overwritten.
inline step_plan random_copies(const memory_layout& l, std::size_t count, std::mt19937& random) {
  step_plan plan;
  const auto blocks = static_cast<std::uint32_t>(l.blocks);
  while (plan.copies.size() < count) {
    const auto source = static_cast<block_id>(random() % blocks);
    const auto destination = static_cast<block_id>(random() % blocks);
    if (source == destination) continue;
    plan.copies.push_back(
        {source, destination, static_cast<std::uint32_t>(1 + random() % l.block_tokens)});
  }
  return plan;
}

inline void add_random_moves(step_plan& plan, const memory_layout& l, std::int32_t rows,
                             std::size_t count, std::mt19937& random) {
  for (std::size_t i = 0; i < count; ++i) {
    plan.logits.push_back(
        {random() % 2 ? logits_direction::store : logits_direction::load,
         static_cast<logits_slot>(random() % static_cast<std::uint32_t>(l.logits_rows)),
         static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(rows))});
  }
}

// The memory of an owning executor, from its first byte.
inline std::byte* memory_of(const cuda_executor& e) {
  return e.plane(0) - e.layout().planes[0].offset;
}
inline std::byte* memory_of(const host_executor& e) {
  return e.token_bytes(0, 0, 0, 0).data() - e.layout().planes[0].offset;
}

inline void upload(void* device, const bytes& host) {
  require_cuda(cudaMemcpy(device, host.data(), host.size(), cudaMemcpyHostToDevice));
  require_cuda(cudaDeviceSynchronize());
}
inline bytes download(const void* device, std::size_t size) {
  bytes host(size);
  require_cuda(cudaMemcpy(host.data(), device, size, cudaMemcpyDeviceToHost));
  return host;
}

// An owning device executor and a host executor that begin with the same random bytes.
struct executor_pair {
  cuda_executor device;
  host_executor host;

  static executor_pair make(const memory_layout& l, std::mt19937& random,
                            const cuda_executor_options& options = {}) {
    executor_pair p{cuda_executor::create(l, options).value(), host_executor::create(l).value()};
    const bytes start = random_bytes(l.bytes(), random);
    upload(memory_of(p.device), start);
    std::copy(start.begin(), start.end(), memory_of(p.host));
    return p;
  }
  // Waits for the device and compares every byte of the pool.
  void expect_equal_pools() {
    const status s = device.synchronize();
    ASSERT_TRUE(s.ok()) << s.error().message;
    const std::size_t size = host.layout().bytes();
    const bytes d = download(memory_of(device), size);
    ASSERT_TRUE(std::equal(d.begin(), d.end(), memory_of(host)));
  }
};

#define RADIXKV_ASSERT_OK(expression)                     \
  do {                                                    \
    const ::radixkv::status status_ = (expression);       \
    ASSERT_TRUE(status_.ok()) << status_.error().message; \
  } while (false)

// The status failed with this code and its message contains `text`.
inline void expect_refused(const status& s, errc code, const std::string& text) {
  ASSERT_FALSE(s.ok()) << "expected: " << text;
  EXPECT_EQ(to_string(s.error().code), std::string(to_string(code))) << s.error().message;
  EXPECT_NE(s.error().message.find(text), std::string::npos) << s.error().message;
}
template <class T>
void expect_refused(const result<T>& r, errc code, const std::string& text) {
  ASSERT_FALSE(r.ok()) << "expected: " << text;
  expect_refused(status(r.error()), code, text);
}

}  // namespace radixkv::testing
