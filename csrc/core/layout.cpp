// Ranges and reach of a memory layout, and the usual layouts. Overlap of planes:
// layout_overlap.cpp.
//
// All products are formed in 128 bits: a hostile layout must not wrap into a plausible one.
#include "radixkv/layout.h"

#include <algorithm>
#include <limits>
#include <new>
#include <string>

#include "csrc/core/no_memory.h"
#include "csrc/core/range_check.h"
#include "radixkv/export.h"

namespace radixkv {

using detail::check_range;

namespace {

using wide = unsigned __int128;
constexpr std::uint64_t max_reach = std::numeric_limits<std::int64_t>::max();

wide run_bytes(const memory_layout& l, const plane_layout& p) {
  return wide{l.block_tokens} * p.bytes_per_token;
}

// First byte after the last run. REQUIRES: strides ≥ 0 and blocks, inner_count ≥ 1.
wide reach(const memory_layout& l, const plane_layout& p) {
  return wide{p.offset} +
         wide{static_cast<std::uint64_t>(l.blocks - 1)} *
             static_cast<std::uint64_t>(p.block_stride) +
         wide{p.inner_count - 1} *
             (p.inner_count > 1 ? static_cast<std::uint64_t>(p.inner_stride) : 0) +
         run_bytes(l, p);
}

std::string text(wide value) {
  if (value > std::numeric_limits<std::uint64_t>::max()) return "more than 2^64-1";
  return std::to_string(static_cast<std::uint64_t>(value));
}

status validate_plane(const memory_layout& l, std::size_t index) {
  const plane_layout& p = l.planes[index];
  const std::string name = "plane " + std::to_string(index) + ": ";
  constexpr std::uint32_t max32 = std::numeric_limits<std::uint32_t>::max();
  constexpr std::int64_t max64 = std::numeric_limits<std::int64_t>::max();
  if (status s = check_range(name + "bytes_per_token", p.bytes_per_token, 1, max32); !s) return s;
  if (status s = check_range(name + "inner_count", p.inner_count, 1, max32); !s) return s;
  if (status s = check_range(name + "block_stride", p.block_stride, 0, max64); !s) return s;
  if (status s = check_range(name + "inner_stride", p.inner_stride, 0, max64); !s) return s;

  const wide run = run_bytes(l, p);
  const wide block_stride = static_cast<std::uint64_t>(p.block_stride);
  const wide inner_stride = static_cast<std::uint64_t>(p.inner_stride);
  const wide runs_span = p.inner_count == 1 ? run : (p.inner_count - 1) * inner_stride + run;
  const wide blocks_span =
      wide{static_cast<std::uint64_t>(l.blocks - 1)} * (l.blocks == 1 ? 0 : block_stride) + run;
  const bool runs_inside =
      (p.inner_count == 1 || inner_stride >= run) && (l.blocks == 1 || block_stride >= runs_span);
  const bool blocks_inside =
      (l.blocks == 1 || block_stride >= run) && (p.inner_count == 1 || inner_stride >= blocks_span);
  if (!runs_inside && !blocks_inside) {
    return {errc::invalid_argument,
            name + "blocks overlap: block_stride " + text(block_stride) + ", inner_stride " +
                text(inner_stride) + " with " + std::to_string(p.inner_count) + " runs of " +
                text(run) + " bytes need a block_stride ≥ " + text(runs_span) +
                ", or with heads outermost an inner_stride ≥ " + text(blocks_span)};
  }
  if (reach(l, p) > max_reach) {
    return {errc::invalid_argument, name + "reaches byte " + text(reach(l, p)) + ", the limit is " +
                                        std::to_string(max_reach)};
  }
  return {};
}

}  // namespace

RADIXKV_EXPORT std::uint64_t memory_layout::bytes() const noexcept {
  wide most = 0;
  if (blocks < 1) return 0;
  for (const plane_layout& p : planes) {
    if (p.inner_count < 1 || p.block_stride < 0 || p.inner_stride < 0) continue;
    most = std::max(most, reach(*this, p));
  }
  return static_cast<std::uint64_t>(
      std::min<wide>(most, std::numeric_limits<std::uint64_t>::max()));
}

RADIXKV_EXPORT std::uint64_t memory_layout::logits_row_bytes() const noexcept {
  return vocabulary > 0 ? static_cast<std::uint64_t>(vocabulary) * bytes_of(logits) : 0;
}

RADIXKV_EXPORT status memory_layout::validate() const try {
  if (status s = check_range("layout: blocks", blocks, 1, max_blocks); !s) return s;
  if (status s = check_range("layout: block_tokens", block_tokens, 1, max_block_tokens); !s) {
    return s;
  }
  if (status s = check_range("layout: number of planes", planes.size(), 1, max_planes); !s) {
    return s;
  }
  constexpr std::int32_t max32 = std::numeric_limits<std::int32_t>::max();
  if (status s = check_range("layout: logits_rows", logits_rows, 0, max32); !s) return s;
  if (status s = check_range("layout: vocabulary", vocabulary, logits_rows > 0 ? 1 : 0, max32);
      !s) {
    return s;
  }
  if (logits > logits_type::bf16) {
    return {
        errc::invalid_argument,
        "layout: logits type " + std::to_string(static_cast<int>(logits)) + " is not in [0, 2]"};
  }
  for (std::size_t i = 0; i < planes.size(); ++i) {
    if (status s = validate_plane(*this, i); !s) return s;
  }
  return {};
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say what is wrong");
}

RADIXKV_EXPORT status layout_shape::validate() const try {
  constexpr std::uint64_t max32 = std::numeric_limits<std::uint32_t>::max();
  if (status s = check_range("shape: blocks", blocks, 1, max_blocks); !s) return s;
  if (status s = check_range("shape: block_tokens", block_tokens, 1, max_block_tokens); !s) {
    return s;
  }
  if (status s = check_range("shape: heads", heads, 1, max32); !s) return s;
  if (status s = check_range("shape: head_bytes", head_bytes, 1, max32); !s) return s;
  if (status s = check_range("shape: kv", kv, 1, 2); !s) return s;
  const std::uint32_t planes_per_layer = kv * (scale_bytes > 0 ? 2 : 1);
  if (status s = check_range("shape: layers", layers, 1, max_planes / planes_per_layer); !s) {
    return s;
  }
  if (status s =
          check_range("shape: heads × head_bytes", std::uint64_t{heads} * head_bytes, 1, max32);
      !s) {
    return s;
  }
  return check_range("shape: heads × scale_bytes", std::uint64_t{heads} * scale_bytes, 0, max32);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say what is wrong");
}

namespace {

// Appends planes one after another at 256-byte boundaries. Reach beyond 2^63 saturates, so that
// memory_layout::validate refuses it.
class packer {
 public:
  explicit packer(const layout_shape& shape) {
    layout_.blocks = shape.blocks;
    layout_.block_tokens = shape.block_tokens;
  }

  // `count` planes whose blocks of `runs` runs lie back to back inside one stride.
  void add(std::uint32_t count, std::uint32_t runs, std::uint32_t bytes_per_token) {
    const wide run = wide{layout_.block_tokens} * bytes_per_token;
    const std::uint64_t stride = saturate(run * runs * count);
    for (std::uint32_t i = 0; i < count; ++i) {
      layout_.planes.push_back({.offset = saturate(end_ + run * runs * i),
                                .block_stride = static_cast<std::int64_t>(stride),
                                .inner_stride = static_cast<std::int64_t>(saturate(run)),
                                .inner_count = runs,
                                .bytes_per_token = bytes_per_token});
    }
    end_ += wide{stride} * static_cast<std::uint64_t>(layout_.blocks);
    end_ = (end_ + 255) / 256 * 256;
  }

  memory_layout take() { return std::move(layout_); }

 private:
  static std::uint64_t saturate(wide v) {
    return static_cast<std::uint64_t>(std::min<wide>(v, max_reach));
  }

  memory_layout layout_;
  wide end_ = 0;
};

// All KV planes, then all scale planes. `add(packer, bytes per head)` adds the planes of one kind.
template <typename Add>
memory_layout build(const layout_shape& shape, Add add) {
  packer planes(shape);
  if (!shape.validate()) return planes.take();
  try {
    add(planes, shape.head_bytes);
    if (shape.scale_bytes > 0) add(planes, shape.scale_bytes);
  } catch (const std::bad_alloc&) {
    return packer(shape).take();
  }
  return planes.take();
}

}  // namespace

RADIXKV_EXPORT memory_layout layout_nhd(const layout_shape& shape) {
  return build(shape, [&](packer& planes, std::uint32_t head_bytes) {
    for (std::uint32_t i = 0; i < shape.layers * shape.kv; ++i) {
      planes.add(1, 1, shape.heads * head_bytes);
    }
  });
}

RADIXKV_EXPORT memory_layout layout_hnd(const layout_shape& shape) {
  return build(shape, [&](packer& planes, std::uint32_t head_bytes) {
    for (std::uint32_t i = 0; i < shape.layers * shape.kv; ++i) {
      planes.add(1, shape.heads, head_bytes);
    }
  });
}

RADIXKV_EXPORT memory_layout layout_slab(const layout_shape& shape) {
  return build(shape, [&](packer& planes, std::uint32_t head_bytes) {
    planes.add(shape.layers * shape.kv, 1, shape.heads * head_bytes);
  });
}

RADIXKV_EXPORT memory_layout layout_mla(const layout_shape& shape, std::uint32_t latent_bytes) {
  layout_shape latent = shape;
  latent.heads = 1;
  latent.kv = 1;
  latent.head_bytes = latent_bytes;
  return layout_nhd(latent);
}

}  // namespace radixkv
