// How KV memory is laid out: a list of planes, each a strided array of blocks.
//
// A plane holds, for every block, `inner_count` runs of block_tokens × bytes_per_token bytes. The
// bytes of token t of block b in run i start at
//     base + b * block_stride + i * inner_stride + t * bytes_per_token          (64-bit, see
//     address.h)
// NHD keeps one run per block (inner_count 1, bytes_per_token = heads × dim × element bytes); HND
// keeps one run per head. MLA is one NHD plane per layer. Scales of quantised caches are planes of
// their own. Separate tensors per layer and one slab for all layers differ only in base and stride.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "radixkv/result.h"
#include "radixkv/types.h"

namespace radixkv {

struct plane_layout {
  std::uint64_t offset = 0;           // bytes from the start of the memory to block 0
  std::int64_t block_stride = 0;      // bytes between blocks
  std::int64_t inner_stride = 0;      // bytes between runs of one block
  std::uint32_t inner_count = 1;      // runs per block (heads in HND, 1 in NHD)
  std::uint32_t bytes_per_token = 0;  // bytes of one token in one run

  friend bool operator==(const plane_layout&, const plane_layout&) = default;
};

enum class logits_type : std::uint8_t { fp32, fp16, bf16 };

[[nodiscard]] constexpr std::size_t bytes_of(logits_type t) noexcept {
  return t == logits_type::fp32 ? 4 : 2;
}

// Most planes of one layout.
inline constexpr std::size_t max_planes = 65536;

// Rows of logits that belong to a forward pass: row r starts at data + r × row_stride_bytes and
// holds `vocabulary` elements of `type`. Host memory for the host executor, device memory for the
// CUDA one.
struct logits_rows_view {
  void* data = nullptr;
  std::int64_t row_stride_bytes = 0;
  std::int32_t rows = 0;
  logits_type type = logits_type::fp32;
};

// The KV memory of one executor and its logits store. Plain data, no pointers.
struct memory_layout {
  std::int64_t blocks = 0;
  std::uint32_t block_tokens = 0;
  std::vector<plane_layout> planes;

  std::int32_t logits_rows = 0;  // slots of the logits store; 0: none
  std::int32_t vocabulary = 0;   // elements of a row
  logits_type logits = logits_type::fp32;

  friend bool operator==(const memory_layout&, const memory_layout&) = default;

  // Bytes that `planes` reach: what an owning executor allocates (logits not included). Saturates.
  [[nodiscard]] std::uint64_t bytes() const noexcept;
  // Bytes of one row of logits, unpadded.
  [[nodiscard]] std::uint64_t logits_row_bytes() const noexcept;
  // Checks ranges, strides, that every offset fits 63 bits, and that no two runs of one plane
  // overlap: either the runs of a block lie inside its stride, or, heads outermost, all blocks of a
  // run lie inside the stride of runs. Other nestings are refused. Strides that are never used
  // (of one block, of one run) must be ≥ 0 and are ignored.
  [[nodiscard]] status validate() const;
  // Checks also that no two planes share a byte. `bases`: address of each plane's memory, to which
  // its offset is added; empty: all lie in one memory. Accepted are planes that lie one after the
  // other, planes interleaved with equal strides by block, and by run within a block; interleaving
  // with unequal strides is refused even where no byte is shared. O(planes × log planes).
  // REQUIRES: validate().ok(). Errors: invalid_argument naming two planes, or bases.size().
  [[nodiscard]] status validate_disjoint(std::span<const std::uint64_t> bases = {}) const;
};

// The usual layouts. `kv` planes per layer: 2 (K and V) or 1 (MLA's latent, or K and V interleaved
// by the caller in head_bytes). Planes are in the order layer 0 K, layer 0 V, layer 1 K, …, then
// the scale planes in the same order, packed one after another, 256-byte aligned (inside a slab,
// and inside the slab of its scales, back to back). A shape that validate() refuses, or one without
// host memory for its planes, gives a layout without planes, which memory_layout::validate()
// refuses too.
struct layout_shape {
  std::int64_t blocks = 0;
  std::uint32_t block_tokens = 16;
  std::uint32_t layers = 1;
  std::uint32_t heads = 1;
  std::uint32_t head_bytes = 0;  // head dimension × bytes per element
  std::uint32_t kv = 2;
  std::uint32_t scale_bytes = 0;  // bytes of scales per token and head; 0: no scale planes

  // Checks ranges, the number of planes and that a token's bytes fit 32 bits.
  [[nodiscard]] status validate() const;
};

[[nodiscard]] memory_layout layout_nhd(
    const layout_shape& shape);  // separate tensor per layer and K/V
[[nodiscard]] memory_layout layout_hnd(const layout_shape& shape);  // the same, heads outermost
[[nodiscard]] memory_layout layout_slab(
    const layout_shape& shape);  // one slab: [block][layer][kv][token][head]
// One latent plane per layer with `latent_bytes` per token (576 × 2 for DeepSeek in bf16, 656 in
// FP8). Ignores the shape's heads, head_bytes and kv; scale_bytes counts per token.
[[nodiscard]] memory_layout layout_mla(const layout_shape& shape, std::uint32_t latent_bytes);

}  // namespace radixkv
