// Moves one contiguous segment with a warp, by wide aligned accesses whatever the two alignments
// are.
//
// A segment is seen as *vectors* of `vector_units` units (16 bytes, or 4 elements that are
// converted on the way). Destination vectors are aligned, and a warp stores 32 of them at once,
// starting at a 128-byte boundary. Source vectors are aligned too, and a warp loads 32 of them at
// once, starting at a 32-byte sector. If the two phases differ, registers are shifted between lanes
// (`lane_shift`) and within vectors (`unit_shift`), so that no sector is requested twice within a
// tile.
//
// 1. No byte outside the segment is read or written: vectors that reach over its ends are moved
//    unit by unit.
// 2. The loads of half a tile, at least, are issued before its first store.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

namespace radixkv::kernels {

inline constexpr int warp_lanes = 32;
inline constexpr int windows = 8;                            // vectors that a thread has in flight
inline constexpr int tile_vectors = windows * warp_lanes;    // destination vectors of one warp tile
inline constexpr std::uint32_t destination_alignment = 128;  // bytes, of a tile's first vector
inline constexpr std::uint32_t sector_bytes = 32;

// Raw bytes: a vector is 16 of them. `vector` is what a load brings, `words` what is shifted and
// stored.
struct raw_access {
  static constexpr std::uint32_t source_unit = 1, destination_unit = 1, vector_units = 16;
  using vector = uint4;

  const std::byte* source;
  std::byte* destination;

  __device__ static vector load(const std::byte* p) { return *reinterpret_cast<const uint4*>(p); }
  __device__ static uint4 words(vector v) { return v; }
  __device__ static void store(std::byte* p, uint4 v) { *reinterpret_cast<uint4*>(p) = v; }
  __device__ void move_unit(std::uint32_t u) const { destination[u] = source[u]; }
};

// Where the vectors of a segment lie; all indices count vectors from the aligned bases.
struct segment_geometry {
  std::int32_t body_begin, body_end;  // destination vectors that are moved whole
  std::int32_t source_offset;         // destination vector j starts in source vector j + this
  std::uint32_t unit_shift;           // … at this unit of it
  std::uint32_t destination_phase;    // units between the aligned base and the segment
  const std::byte* source_base;       // aligned to a sector
  std::byte* destination_base;        // aligned to destination_alignment
};

template <class Access>
__device__ segment_geometry measure(const Access& a, std::uint32_t units) {
  constexpr auto v = static_cast<std::int32_t>(Access::vector_units);
  const auto source = reinterpret_cast<std::uintptr_t>(a.source);
  const auto destination = reinterpret_cast<std::uintptr_t>(a.destination);
  const auto source_bytes = static_cast<std::uint32_t>(source) % sector_bytes;
  const auto destination_bytes = static_cast<std::uint32_t>(destination) % destination_alignment;

  segment_geometry g;
  g.source_base = a.source - source_bytes;
  g.destination_base = a.destination - destination_bytes;
  const auto n = static_cast<std::int32_t>(units);
  const auto source_phase = static_cast<std::int32_t>(source_bytes / Access::source_unit);
  const auto phase = static_cast<std::int32_t>(destination_bytes / Access::destination_unit);
  const std::int32_t distance = source_phase - phase;
  // Signed shifts and masks round towards minus infinity, as is wanted here.
  static_assert(v == 4 || v == 16);
  constexpr int log2_v = v == 4 ? 2 : 4;
  g.source_offset = distance >> log2_v;
  g.unit_shift = static_cast<std::uint32_t>(distance & (v - 1));
  g.destination_phase = static_cast<std::uint32_t>(phase);
  g.body_begin = (phase + v - 1) >> log2_v;
  g.body_end = (phase + n) >> log2_v;
  if (g.unit_shift != 0) {  // vectors j + offset and j + offset + 1 of the source are read whole
    g.body_begin = max(g.body_begin, ((source_phase + v - 1) >> log2_v) - g.source_offset);
    g.body_end = min(g.body_end, ((source_phase + n) >> log2_v) - g.source_offset - 1);
  }
  // Without a body the units before and after it are all there is; see move_tile.
  if (g.body_end <= g.body_begin) g.body_begin = g.body_end = 0;
  return g;
}

// Tiles that cover a segment of `units` units, if its destination has this phase.
template <class Access>
__host__ __device__ constexpr std::uint32_t tiles_of(std::uint32_t units, std::uint32_t phase) {
  constexpr std::uint32_t tile_units = tile_vectors * Access::vector_units;
  return (units + phase + tile_units - 1) / tile_units;
}

__device__ inline uint4 shuffle(uint4 v, std::uint32_t lane) {
  constexpr unsigned all = 0xffffffffu;
  return {__shfl_sync(all, v.x, lane), __shfl_sync(all, v.y, lane), __shfl_sync(all, v.z, lane),
          __shfl_sync(all, v.w, lane)};
}

// The 16 bytes that start `bytes` (0 … 15) into the 32 bytes (low, high).
__device__ inline uint4 funnel(uint4 low, uint4 high, std::uint32_t bytes) {
  const bool two = (bytes & 8) != 0, one = (bytes & 4) != 0;
  const std::uint32_t bits = (bytes & 3) * 8;
  const std::uint32_t a0 = two ? low.z : low.x, a1 = two ? low.w : low.y;
  const std::uint32_t a2 = two ? high.x : low.z, a3 = two ? high.y : low.w;
  const std::uint32_t a4 = two ? high.z : high.x, a5 = two ? high.w : high.y;
  const std::uint32_t b0 = one ? a1 : a0, b1 = one ? a2 : a1, b2 = one ? a3 : a2;
  const std::uint32_t b3 = one ? a4 : a3, b4 = one ? a5 : a4;
  return {__funnelshift_r(b0, b1, bits), __funnelshift_r(b1, b2, bits),
          __funnelshift_r(b2, b3, bits), __funnelshift_r(b3, b4, bits)};
}

// Both phases agree: loads and stores address the same lanes. WholeTiles: full tiles are moved at
// once; otherwise half a tile at a time, which takes fewer registers.
template <class Access, bool WholeTiles>
__device__ void move_tile_direct(const segment_geometry& g, std::int32_t first,
                                 std::uint32_t lane) {
  constexpr std::uint32_t source_vector = Access::source_unit * Access::vector_units;
  constexpr std::uint32_t destination_vector = Access::destination_unit * Access::vector_units;
  const std::int32_t j = first + static_cast<std::int32_t>(lane);
  const std::byte* from =
      g.source_base + std::int64_t{j + g.source_offset} * std::int64_t{source_vector};
  std::byte* to = g.destination_base + std::int64_t{j} * std::int64_t{destination_vector};
  if constexpr (WholeTiles) {
    if (first >= g.body_begin && first + tile_vectors <= g.body_end) {
      typename Access::vector v[windows];
#pragma unroll
      for (int w = 0; w < windows; ++w) v[w] = Access::load(from + w * warp_lanes * source_vector);
#pragma unroll
      for (int w = 0; w < windows; ++w) {
        Access::store(to + w * warp_lanes * destination_vector, Access::words(v[w]));
      }
      return;
    }
  }
  constexpr int half = windows / 2;
  typename Access::vector v[half];
#pragma unroll 1
  for (std::int32_t done = 0; done < windows && first + done * warp_lanes < g.body_end;
       done += half) {
#pragma unroll
    for (int w = 0; w < half; ++w) {
      const std::int32_t k = j + (done + w) * warp_lanes;
      if (k >= g.body_begin && k < g.body_end) {
        v[w] = Access::load(from + (done + w) * warp_lanes * source_vector);
      }
    }
#pragma unroll
    for (int w = 0; w < half; ++w) {
      const std::int32_t k = j + (done + w) * warp_lanes;
      if (k >= g.body_begin && k < g.body_end) {
        Access::store(to + (done + w) * warp_lanes * destination_vector, Access::words(v[w]));
      }
    }
  }
}

// The phases differ: lane i of a window takes its vector from lanes i + lane_shift and the next
// one, whose registers come from the following window where that is past lane 31.
template <class Access>
__device__ void move_tile_shifted(const segment_geometry& g, std::int32_t first,
                                  std::uint32_t lane) {
  constexpr std::uint32_t source_vector = Access::source_unit * Access::vector_units;
  constexpr std::uint32_t destination_vector = Access::destination_unit * Access::vector_units;
  constexpr std::uint32_t per_sector = sector_bytes / source_vector;
  const std::uint32_t lane_shift = static_cast<std::uint32_t>(g.source_offset) % per_sector;
  const std::int32_t load_begin = g.body_begin + g.source_offset;
  const std::int32_t load_end = g.body_end + g.source_offset + (g.unit_shift != 0);
  const std::int32_t i = first + g.source_offset - static_cast<std::int32_t>(lane_shift) +
                         static_cast<std::int32_t>(lane);
  const std::byte* from = g.source_base + std::int64_t{i} * std::int64_t{source_vector};
  const auto load = [&](int w, bool wanted) {
    const std::int32_t k = i + w * warp_lanes;
    typename Access::vector v = {};
    if (wanted && k >= load_begin && k < load_end) {
      v = Access::load(from + static_cast<std::int64_t>(w * warp_lanes) * source_vector);
    }
    return v;
  };
  const std::int32_t j = first + static_cast<std::int32_t>(lane);
  std::byte* to = g.destination_base + std::int64_t{j} * std::int64_t{destination_vector};
  const std::uint32_t shift_bytes = g.unit_shift * (16 / Access::vector_units);
  // Half a tile at a time keeps registers free; the window between the halves is kept, not
  // reloaded.
  constexpr int half = windows / 2;
  typename Access::vector v[half + 1];
  v[half] = load(0, true);
#pragma unroll 1
  for (int done = 0; done < windows && first + done * warp_lanes < g.body_end; done += half) {
    v[0] = v[half];
#pragma unroll
    for (int w = 1; w <= half; ++w) {
      // Of the window behind the tile only the first vectors are needed.
      const bool inside = done + w < windows || lane < lane_shift + (g.unit_shift != 0);
      v[w] = load(done + w, inside);
    }
#pragma unroll
    for (int w = 0; w < half; ++w) {
      const uint4 low = shuffle(Access::words(lane < lane_shift ? v[w + 1] : v[w]),
                                (lane + lane_shift) % warp_lanes);
      uint4 result = low;
      if (shift_bytes != 0) {
        const uint4 high = shuffle(Access::words(lane < lane_shift + 1 ? v[w + 1] : v[w]),
                                   (lane + lane_shift + 1) % warp_lanes);
        result = funnel(low, high, shift_bytes);
      }
      const std::int32_t k = j + (done + w) * warp_lanes;
      if (k >= g.body_begin && k < g.body_end) {
        Access::store(to + static_cast<std::int64_t>((done + w) * warp_lanes) * destination_vector,
                      result);
      }
    }
  }
}

// Moves tile `tile` of a segment of `units` units; all lanes of the warp call it with equal
// arguments. Tile 0 also moves the units before the first whole vector, and the tile that holds the
// last unit those after the last one.
template <class Access, bool WholeTiles = false>
__device__ void move_tile(const Access& a, std::uint32_t units, std::uint32_t tile,
                          std::uint32_t lane) {
  const segment_geometry g = measure(a, units);
  const auto first = static_cast<std::int32_t>(tile * tile_vectors);
  constexpr std::uint32_t per_sector = sector_bytes / (Access::source_unit * Access::vector_units);
  if (first < g.body_end) {
    const bool same =
        g.unit_shift == 0 && static_cast<std::uint32_t>(g.source_offset) % per_sector == 0;
    if (same) {
      move_tile_direct<Access, WholeTiles>(g, first, lane);
    } else {
      move_tile_shifted<Access>(g, first, lane);
    }
  }
  const std::uint32_t head = min(
      units, static_cast<std::uint32_t>(g.body_begin) * Access::vector_units - g.destination_phase);
  if (tile == 0) {
#pragma unroll 1
    for (std::uint32_t u = lane; u < head; u += warp_lanes) a.move_unit(u);
  }
  if (tile + 1 == tiles_of<Access>(units, g.destination_phase)) {
    const std::uint32_t body =
        static_cast<std::uint32_t>(g.body_end) * Access::vector_units - g.destination_phase;
#pragma unroll 1
    for (std::uint32_t u = max(head, min(units, body)) + lane; u < units; u += warp_lanes)
      a.move_unit(u);
  }
}

}  // namespace radixkv::kernels
