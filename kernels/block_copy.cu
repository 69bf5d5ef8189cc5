// Grid (chunk of items, group of planes, slice of the block's tiles); a warp moves a tile of one
// plane's segment at a time. Tiles of a plane are spread over `slices` warps, so that one block
// already fills the device, and items over the blocks of the grid, so that copies of different
// lengths balance. Planes sit in the kernel's parameters: from memory they would cost traffic.

#include <algorithm>
#include <utility>

#include "kernels/block_copy.h"
#include "kernels/launch.h"
#include "kernels/pointer_check.h"
#include "kernels/segment_mover.cuh"

namespace radixkv::kernels {
namespace {

constexpr std::uint32_t warps = 8;  // per thread block
constexpr std::uint32_t staged_items = 64;
constexpr std::uint32_t item_words = sizeof(block_copy_item) / sizeof(std::int32_t);
static_assert(staged_items * item_words <= warps * warp_lanes);
constexpr std::uint32_t max_grid_y = 65535;  // CUDA's
constexpr std::uint32_t max_grid_z = 64;
constexpr std::uint64_t plenty_of_tiles = 4096;  // two for each warp that an H100 holds
// Segments of at most so many bytes are packed, several to a warp, if a block has more than one.
constexpr std::uint32_t small_segment_bytes = 256;

template <std::uint32_t Capacity>
struct parameter_planes {
  plane all[Capacity];
  __device__ const plane& operator[](std::uint32_t i) const { return all[i]; }
};

struct memory_planes {
  const plane* all;
  __device__ const plane& operator[](std::uint32_t i) const { return all[i]; }
};

struct copy_scope {
  const block_copy_item* items;
  const std::uint32_t* device_item_count;
  std::uint32_t* rejected;
  std::uint32_t item_count;
  std::uint32_t plane_count;
  std::int32_t block_count;
  std::uint32_t block_tokens;
  std::uint32_t log2_plane_warps;  // warps of a thread block that share a plane
};

struct segments {
  std::byte* source;
  std::byte* destination;
  std::int64_t stride;
  std::uint32_t count;
  std::uint32_t bytes;  // of each
};

// The segments of one plane that an item copies; a whole block without gaps is one segment.
__device__ segments segments_of(const plane& p, const block_copy_item& item,
                                std::uint32_t block_tokens) {
  segments s;
  s.source = token_address(p, item.source, 0, 0);
  s.destination = token_address(p, item.destination, 0, 0);
  // Planes read from memory hide that they point to global memory, for which there are better
  // loads.
  __builtin_assume(__isGlobal(s.source));
  __builtin_assume(__isGlobal(s.destination));
  s.stride = p.inner_stride;
  s.count = p.inner_count;
  s.bytes = static_cast<std::uint32_t>(item.tokens) * p.bytes_per_token;
  const bool whole = static_cast<std::uint32_t>(item.tokens) == block_tokens;
  if (s.count > 1 && whole && s.stride == std::int64_t{s.bytes} &&
      std::uint64_t{s.bytes} * s.count < (std::uint64_t{1} << 30)) {
    s.bytes *= s.count;
    s.count = 1;
  }
  return s;
}

// Each segment has a power of two of lanes, so that finding a unit's segment takes no division.
template <class Unit>
__device__ void copy_small(const segments& s, std::uint32_t slice, std::uint32_t slices,
                           std::uint32_t lane) {
  const std::uint32_t units = s.bytes / sizeof(Unit);
  const std::uint32_t log2_lanes = 32 - __clz(units - 1);  // units ≥ 1; __clz(0) is 32
  const std::uint32_t all = s.count << log2_lanes;
#pragma unroll 1
  for (std::uint32_t u = slice * warp_lanes + lane; u < all; u += slices * warp_lanes) {
    const std::uint32_t within = u & ((1u << log2_lanes) - 1);
    if (within >= units) continue;
    const std::int64_t offset =
        std::int64_t{u >> log2_lanes} * s.stride + static_cast<std::int64_t>(within * sizeof(Unit));
    *reinterpret_cast<Unit*>(s.destination + offset) =
        *reinterpret_cast<const Unit*>(s.source + offset);
  }
}

// The usual case: segments of whole 16-byte vectors that start at sector boundaries.
__device__ void copy_aligned(const segments& s, std::uint32_t slice, std::uint32_t slices,
                             std::uint32_t lane) {
  constexpr int half = windows / 2;
  constexpr std::uint32_t window_bytes = warp_lanes * 16, tile_bytes = windows * window_bytes;
  const std::uint32_t tiles = (s.bytes + tile_bytes - 1) / tile_bytes;
  const std::uint32_t all = tiles * s.count;
#pragma unroll 1
  for (std::uint32_t t = slice; t < all; t += slices) {
    std::uint32_t begin = t * tile_bytes + lane * 16;  // of this lane, within the segment
    std::int64_t offset = begin;
    if (s.count > 1) {
      const std::uint32_t segment = tiles == 1 ? t : t / tiles;
      begin -= segment * tiles * tile_bytes;
      offset = std::int64_t{segment} * s.stride + begin;
    }
    const std::byte* from = s.source + offset;
    std::byte* to = s.destination + offset;
    if (begin - lane * 16 + tile_bytes <= s.bytes) {
      uint4 v[windows];
#pragma unroll
      for (int w = 0; w < windows; ++w) v[w] = raw_access::load(from + w * window_bytes);
#pragma unroll
      for (int w = 0; w < windows; ++w) raw_access::store(to + w * window_bytes, v[w]);
      continue;
    }
    // The end of a segment: half a tile at a time, as far as needed.
#pragma unroll 1
    for (int done = 0; done < windows && begin < s.bytes; done += half) {
      uint4 v[half];
#pragma unroll
      for (int w = 0; w < half; ++w) {
        if (begin + w * window_bytes < s.bytes) v[w] = raw_access::load(from + w * window_bytes);
      }
#pragma unroll
      for (int w = 0; w < half; ++w) {
        if (begin + w * window_bytes < s.bytes) raw_access::store(to + w * window_bytes, v[w]);
      }
      begin += half * window_bytes;
      from += half * window_bytes;
      to += half * window_bytes;
    }
  }
}

// Any alignment: a warp tile at a time, see segment_mover.cuh.
__device__ void copy_unaligned(const segments& s, std::uint32_t slice, std::uint32_t slices,
                               std::uint32_t lane) {
  // Tiles per segment; of several segments, as many as the worst phase needs (the last may be
  // empty).
  std::uint32_t phase =
      static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(s.destination)) %
      destination_alignment;
  if (s.count > 1 &&
      (phase | (static_cast<std::uint32_t>(s.stride) % destination_alignment)) != 0) {
    phase = destination_alignment - 1;
  }
  const std::uint32_t tiles = tiles_of<raw_access>(s.bytes, phase);
  const std::uint32_t all = tiles * s.count;
#pragma unroll 1
  for (std::uint32_t t = slice; t < all; t += slices) {
    const std::uint32_t segment = t / tiles;
    const std::int64_t offset = std::int64_t{segment} * s.stride;
    move_tile(raw_access{s.source + offset, s.destination + offset}, s.bytes, t - segment * tiles,
              lane);
  }
}

// This warp's share, `slice` of `slices`, of one item in one plane. `Aligned`: all planes are.
template <bool Aligned>
__device__ void copy_plane(const segments& s, std::uint32_t slice, std::uint32_t slices,
                           std::uint32_t lane) {
  const std::uint32_t starts =
      static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(s.source)) |
      static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(s.destination)) |
      (s.count > 1 ? static_cast<std::uint32_t>(s.stride) : 0);
  if (s.count > 1 && s.bytes <= small_segment_bytes) {
    const std::uint32_t alignment = starts | s.bytes;
    if (Aligned || alignment % 16 == 0) {
      copy_small<uint4>(s, slice, slices, lane);
    } else if (alignment % 4 == 0) {
      copy_small<std::uint32_t>(s, slice, slices, lane);
    } else {
      copy_small<std::uint8_t>(s, slice, slices, lane);
    }
  } else if (Aligned || (starts % sector_bytes == 0 && s.bytes % 16 == 0)) {
    copy_aligned(s, slice, slices, lane);
  } else {
    copy_unaligned(s, slice, slices, lane);
  }
}

// A kernel for aligned planes alone has two thirds of the registers of one that can do any: without
// it partial blocks of 656 bytes a token reach 0.83 of a copy's bandwidth instead of 0.92 (H100).
template <class Planes, bool Aligned>
__global__ void __launch_bounds__(warps* warp_lanes, 2)
    block_copy_kernel(const __grid_constant__ copy_scope scope,
                      const __grid_constant__ Planes planes) {
  __shared__ block_copy_item staged[staged_items];
  __shared__ std::uint32_t shared_count;
  std::uint32_t count = scope.item_count;
  if (scope.device_item_count != nullptr) {
    if (threadIdx.x == 0) shared_count = min(count, *scope.device_item_count);
    __syncthreads();
    count = shared_count;
  }
  const std::uint32_t lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
  const std::uint32_t plane_warps = 1u << scope.log2_plane_warps;
  const std::uint32_t plane_index =
      (blockIdx.y * (warps >> scope.log2_plane_warps)) + (warp >> scope.log2_plane_warps);
  const std::uint32_t slice = blockIdx.z * plane_warps + (warp & (plane_warps - 1));
  const std::uint32_t slices = gridDim.z * plane_warps;

  const std::uint32_t chunk = (count + gridDim.x - 1) / gridDim.x;
  const std::uint32_t end = min(count, (blockIdx.x + 1) * chunk);
  for (std::uint32_t first = blockIdx.x * chunk; first < end; first += staged_items) {
    const std::uint32_t staged_count = min(staged_items, end - first);
    __syncthreads();  // the items staged before are done with
    // Word by word, so that one request brings them.
    if (threadIdx.x < staged_count * item_words) {
      reinterpret_cast<std::int32_t*>(staged)[threadIdx.x] =
          reinterpret_cast<const std::int32_t*>(scope.items + first)[threadIdx.x];
    }
    __syncthreads();
    if (threadIdx.x < staged_count) {
      block_copy_item& item = staged[threadIdx.x];
      const bool good = item.source >= 0 && item.source < scope.block_count &&
                        item.destination >= 0 && item.destination < scope.block_count &&
                        item.source != item.destination && item.tokens >= 1 &&
                        static_cast<std::uint32_t>(item.tokens) <= scope.block_tokens;
      if (!good) {
        item.tokens = 0;
        if (scope.rejected != nullptr && blockIdx.y == 0 && blockIdx.z == 0) {
          atomicAdd(scope.rejected, 1u);
        }
      }
    }
    __syncthreads();
    if (plane_index >= scope.plane_count) continue;
#pragma unroll 1
    for (std::uint32_t i = 0; i < staged_count; ++i) {
      if (staged[i].tokens == 0) continue;
      copy_plane<Aligned>(segments_of(planes[plane_index], staged[i], scope.block_tokens), slice,
                          slices, lane);
    }
  }
}

// Warp tiles of a whole block in one plane, at most.
std::uint64_t tiles_in(const plane& p, std::uint32_t block_tokens) {
  const std::uint32_t bytes = block_tokens * p.bytes_per_token;
  if (p.inner_count == 1) return tiles_of<raw_access>(bytes, 0);
  if (p.inner_stride == std::int64_t{bytes} || bytes <= small_segment_bytes) {
    constexpr std::uint64_t tile_bytes = tile_vectors * raw_access::vector_units;
    return (std::uint64_t{bytes} * p.inner_count + tile_bytes - 1) / tile_bytes;
  }
  return std::uint64_t{p.inner_count} * tiles_of<raw_access>(bytes, 0);
}

bool is_valid(const plane& p, std::uint32_t block_tokens) {
  return p.base != nullptr && p.inner_count != 0 && p.bytes_per_token != 0 &&
         std::uint64_t{p.bytes_per_token} * block_tokens < (std::uint64_t{1} << 30);
}

bool is_aligned_plane(const plane& p) {
  return reinterpret_cast<std::uintptr_t>(p.base) % sector_bytes == 0 &&
         p.block_stride % sector_bytes == 0 && p.bytes_per_token % 16 == 0 &&
         (p.inner_count == 1 || p.inner_stride % sector_bytes == 0);
}

struct planes_kernel {
  const void* kernel;
  std::uint32_t capacity;  // planes that its parameters hold; 0: it reads them from memory
};

template <class Planes>
planes_kernel kernel_for(bool aligned, std::uint32_t capacity) {
  const auto kernel = aligned ? block_copy_kernel<Planes, true> : block_copy_kernel<Planes, false>;
  return {reinterpret_cast<const void*>(kernel), capacity};
}
template <std::uint32_t Capacity>
planes_kernel kernel_for(bool aligned) {
  static_assert(sizeof(parameter_planes<Capacity>) == Capacity * sizeof(plane));
  return kernel_for<parameter_planes<Capacity>>(aligned, Capacity);
}

planes_kernel kernel_for(std::size_t plane_count, bool aligned) {
  if (plane_count <= 32) return kernel_for<32>(aligned);
  if (plane_count <= 120) return kernel_for<120>(aligned);
  if (plane_count <= 384) return kernel_for<384>(aligned);
  if (plane_count <= max_parameter_planes) return kernel_for<max_parameter_planes>(aligned);
  return kernel_for<memory_planes>(aligned, 0);
}

cudaError_t check(const block_copy_arguments& a) {
  if (a.items == nullptr || a.item_count > max_launch_count) return cudaErrorInvalidValue;
  if (!is_aligned(a.items, alignof(block_copy_item)) ||
      !is_aligned(a.device_item_count, alignof(std::uint32_t)) ||
      !is_aligned(a.rejected, alignof(std::uint32_t))) {
    return cudaErrorMisalignedAddress;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t block_copy_planes::set(std::span<const plane> planes, std::int32_t block_count,
                                   std::uint32_t block_tokens, const plane* device_planes) {
  if (planes.empty() || planes.size() > std::size_t{max_grid_y} * warps || block_count <= 0 ||
      block_tokens == 0 || (planes.size() > max_parameter_planes && device_planes == nullptr) ||
      !std::ranges::all_of(planes, [=](const plane& p) { return is_valid(p, block_tokens); })) {
    return cudaErrorInvalidValue;
  }
  if (!is_aligned(device_planes, alignof(plane))) return cudaErrorMisalignedAddress;
  const planes_kernel chosen =
      kernel_for(planes.size(), std::ranges::all_of(planes, is_aligned_plane));
  std::vector<plane> parameters(chosen.capacity);
  if (chosen.capacity > 0) std::ranges::copy(planes, parameters.begin());
  kernel_ = chosen.kernel;
  parameters_ = std::move(parameters);
  device_planes_ = device_planes;
  plane_count_ = static_cast<std::uint32_t>(planes.size());
  block_count_ = block_count;
  block_tokens_ = block_tokens;
  tiles_ = 1;
  for (const plane& p : planes) tiles_ = std::max(tiles_, tiles_in(p, block_tokens));
  return cudaSuccess;
}

cudaError_t block_copy_planes::load() const {
  return kernel_ == nullptr ? cudaErrorInvalidValue : load_untyped(kernel_);
}

cudaError_t block_copy(cudaStream_t stream, const block_copy_planes& planes,
                       const block_copy_arguments& a) {
  if (planes.kernel_ == nullptr) return cudaErrorInvalidValue;
  if (const cudaError_t error = check(a); error != cudaSuccess) return error;
  if (a.item_count == 0) return cudaSuccess;

  const std::uint32_t plane_count = planes.plane_count_;
  copy_scope scope{a.items,     a.device_item_count, a.rejected,           a.item_count,
                   plane_count, planes.block_count_, planes.block_tokens_, 0};
  // Where there is plenty to do a warp takes two tiles, which halves the work of setting out.
  const std::uint64_t work = std::min(planes.tiles_, plenty_of_tiles) * plane_count * a.item_count;
  const std::uint64_t wanted_warps =
      work >= plenty_of_tiles ? (planes.tiles_ + 1) / 2 : planes.tiles_;
  while ((1u << scope.log2_plane_warps) < std::min<std::uint64_t>(wanted_warps, warps)) {
    ++scope.log2_plane_warps;
  }
  const auto groups = [&] {
    const std::uint32_t group = warps >> scope.log2_plane_warps;
    return plane_count / group + (plane_count % group != 0);
  };
  // Fewer warps for each plane where a grid has no room for so many groups.
  while (groups() > max_grid_y && scope.log2_plane_warps > 0) --scope.log2_plane_warps;
  dim3 grid;
  grid.y = groups();
  grid.z = static_cast<unsigned>(
      std::min<std::uint64_t>((wanted_warps + warps - 1) / warps, max_grid_z));
  grid.x = std::clamp(a.max_thread_blocks / (grid.y * grid.z), 1u, a.item_count);

  memory_planes from_memory{planes.device_planes_};
  void* const where = planes.parameters_.empty()
                          ? static_cast<void*>(&from_memory)
                          : const_cast<plane*>(planes.parameters_.data());  // only read
  void* parameters[] = {&scope, where};
  return launch_untyped(stream, planes.kernel_, grid, dim3(warps * warp_lanes), 0, parameters);
}

}  // namespace radixkv::kernels
