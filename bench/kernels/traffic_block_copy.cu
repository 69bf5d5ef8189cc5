// Traffic of block_copy: the layouts of serving engines, whole blocks and first-n-tokens copies.

#include <algorithm>
#include <random>

#include "bench/kernels/bench_memory.h"
#include "bench/kernels/traffic_case.h"
#include "kernels/block_copy.h"

namespace radixkv::bench {
namespace {

using kernels::block_copy_item;
using kernels::plane;

struct copy_shape {
  std::uint32_t planes, inner_count, bytes_per_token, block_tokens;
  std::int32_t copies;
  bool whole;
  std::size_t phase = 0;      // bytes between an aligned address and a plane
  std::size_t block_gap = 0;  // bytes between blocks
};

traffic_result run(const copy_shape& s) {
  const std::int64_t segment = std::int64_t{s.block_tokens} * s.bytes_per_token;
  // As tensors of an engine lie: blocks × heads × tokens, one tensor per plane.
  const std::int64_t stride = segment * s.inner_count + static_cast<std::int64_t>(s.block_gap);
  const std::int32_t blocks = s.copies * 2;
  const std::size_t plane_bytes =
      (static_cast<std::size_t>(stride * blocks) + s.phase + 255) / 256 * 256;
  bench_memory<std::byte> memory(plane_bytes * s.planes);
  std::vector<plane> planes;
  for (std::uint32_t i = 0; i < s.planes; ++i) {
    planes.push_back({memory.data() + i * plane_bytes + s.phase, stride, segment, s.inner_count,
                      s.bytes_per_token});
  }
  std::mt19937 random(1);
  std::vector<std::int32_t> order;
  for (std::int32_t b = 0; b < blocks; ++b) order.push_back(b);
  std::shuffle(order.begin(), order.end(), random);
  std::vector<block_copy_item> items;
  double bytes = 0;
  for (std::int32_t i = 0; i < s.copies; ++i) {
    const auto tokens =
        static_cast<std::int32_t>(s.whole ? s.block_tokens : 1 + random() % (s.block_tokens - 1));
    items.push_back({order[2 * i], order[2 * i + 1], tokens});
    bytes += 2.0 * tokens * s.bytes_per_token * s.inner_count * s.planes;
  }
  std::vector<unsigned char> content(plane_bytes * s.planes);
  for (unsigned char& c : content) c = static_cast<unsigned char>(random() >> 8);
  memory.upload(reinterpret_cast<const std::byte*>(content.data()), content.size());
  bench_memory<block_copy_item> device_items(items.size());
  device_items.upload(items.data(), items.size());

  kernels::block_copy_planes copied;
  kernels::block_copy_arguments a;
  a.items = device_items.data();
  a.item_count = static_cast<std::uint32_t>(items.size());
  traffic_result result;
  result.bytes_minimal = bytes;
  cudaError_t error = copied.set(planes, blocks, s.block_tokens);
  if (error == cudaSuccess) error = kernels::block_copy(nullptr, copied, a);
  if (error != cudaSuccess) {
    result.error = cudaGetErrorString(error);
    return result;
  }
  const std::vector<std::byte> got = memory.download();
  for (const plane& p : planes) {
    const std::size_t base = static_cast<std::size_t>(p.base - memory.data());
    for (const block_copy_item& item : items) {
      for (std::uint32_t h = 0; h < s.inner_count; ++h) {
        const std::size_t n = static_cast<std::size_t>(item.tokens) * s.bytes_per_token;
        const std::size_t from =
            base + static_cast<std::size_t>(item.source * stride + h * segment);
        const std::size_t to =
            base + static_cast<std::size_t>(item.destination * stride + h * segment);
        if (!std::equal(content.begin() + static_cast<std::ptrdiff_t>(from),
                        content.begin() + static_cast<std::ptrdiff_t>(from + n),
                        reinterpret_cast<const unsigned char*>(got.data()) + to)) {
          result.error = "wrong bytes";
          return result;
        }
      }
    }
  }
  return result;
}

const traffic_registrar cases([](std::vector<traffic_case>& all) {
  const auto add = [&](const char* name, copy_shape shape) {
    all.push_back({"block_copy", name, "block_copy_kernel", [shape] { return run(shape); }});
  };
  // 8 heads × 128 × 2 bytes; 8 layers of K and V.
  add("nhd_full", {16, 1, 2048, 16, 64, true});
  add("nhd_first_n", {16, 1, 2048, 16, 64, false});
  add("hnd_full", {16, 8, 256, 16, 64, true});
  add("hnd_first_n", {16, 8, 256, 16, 64, false});
  add("mla_656_full", {16, 1, 656, 16, 96, true});
  add("mla_656_first_n", {16, 1, 656, 16, 96, false});
  add("mla_656_page_64", {16, 1, 656, 64, 32, true});
  add("mla_1152_full", {16, 1, 1152, 16, 96, true});
  add("one_block_160_planes", {160, 1, 2048, 16, 1, true});
  add("one_block_900_planes", {900, 1, 256, 16, 1, true});
  add("one_head_full", {16, 1, 256, 16, 256, true});
  add("page_1", {32, 1, 2048, 1, 256, true});
  add("scales_hnd", {16, 8, 4, 16, 256, true});
  add("nhd_base_16", {16, 1, 2048, 16, 64, true, 16});
  add("nhd_base_8", {16, 1, 2048, 16, 64, true, 8});
  add("nhd_base_1", {16, 1, 2048, 16, 64, true, 1});
  // The phases of source and destination differ.
  add("nhd_stride_16", {16, 1, 2048, 16, 64, true, 0, 16});
  add("nhd_stride_4", {16, 1, 2048, 16, 64, true, 0, 4});
  add("nhd_stride_1", {16, 1, 2048, 16, 64, true, 0, 1});
});

}  // namespace
}  // namespace radixkv::bench
