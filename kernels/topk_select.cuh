// A thread block's running top-k: a list in shared memory that tiles of elements are added to.
//
// 1. The list is in order of id, and every id in it is lower than those of the tiles to come.
// 2. After a selection the list holds the k best so far; `threshold` is the worst of them, so that
//    a later element can only matter if it is larger (an equal one has a higher id).
//
// A tile's candidates are appended while there is room. Otherwise a radix selection (11, 11 and 10
// bits, over the candidates in registers and the list) brings the list back to k. No order of the
// input makes that cost more than one selection per tile.
#pragma once

#include <cstdint>
#include <type_traits>

#include <cub/block/block_scan.cuh>
#include <cuda_runtime.h>

namespace radixkv::kernels {

inline constexpr int topk_threads = 256;
inline constexpr int topk_items = 16;  // elements of a tile per thread
inline constexpr int topk_tile = topk_threads * topk_items;
inline constexpr int topk_windows = 4;  // list entries per thread; also 16-bit counters in 64 bits
inline constexpr std::uint32_t topk_capacity = topk_threads * topk_windows;
inline constexpr int topk_bins = 2048;
inline constexpr int topk_thread_bins = topk_bins / topk_threads;

// Keys order as the elements do: −∞ … −0 = +0 … +∞, NaN. No element has key 0.
__device__ inline std::uint32_t key_of(float x) {
  const std::uint32_t bits = __float_as_uint(x + 0.0f);  // −0 becomes +0
  const std::uint32_t flip = static_cast<std::uint32_t>(static_cast<std::int32_t>(bits) >> 31);
  return x != x ? 0xffffffffu : bits ^ (flip | 0x80000000u);
}
__device__ inline float value_of(std::uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key ^ 0x80000000u : ~key);
}

// Four 16-bit counters for the list's windows and four for the tile's, added together.
struct topk_counts {
  std::uint64_t list, tile;
  __device__ friend topk_counts operator+(const topk_counts& a, const topk_counts& b) {
    return {a.list + b.list, a.tile + b.tile};
  }
};
// Sum of the counters of `c` below window `w`, or of all four.
__device__ inline std::uint32_t counters_before(std::uint64_t c, int w) {
  std::uint32_t sum = 0;
#pragma unroll
  for (int i = 0; i < topk_windows; ++i) {
    if (i < w) sum += static_cast<std::uint32_t>(c >> (16 * i)) & 0xffffu;
  }
  return sum;
}
__device__ inline std::uint32_t counter(std::uint64_t c, int w) {
  return static_cast<std::uint32_t>(c >> (16 * w)) & 0xffffu;
}

inline constexpr std::uint32_t key_of_infinity = 0xff800000u, key_of_minus_infinity = 0x007fffffu;

// A tile in registers: thread t holds, in window w, items (w × threads + t) × Vector + 0 … Vector
// − 1.
template <int Vector>
struct topk_layout {
  static constexpr int vector = Vector, tile_windows = topk_items / Vector;
  static_assert(tile_windows <= topk_windows && topk_threads * Vector < 65536);
};

class topk_list {
 public:
  using count_scan = cub::BlockScan<topk_counts, topk_threads>;
  using bin_scan = cub::BlockScan<std::uint32_t, topk_threads>;

  struct storage {
    float values[topk_capacity];
    std::int32_t ids[topk_capacity];
    std::uint32_t bins[topk_bins];
    union {
      typename count_scan::TempStorage counts;
      typename bin_scan::TempStorage bin_sums;
    };
    std::uint32_t chosen_bin, chosen_rest, chosen_whole;
  };

  __device__ topk_list(storage& s, std::uint32_t k) : s_(s), k_(k) {}

  __device__ std::uint32_t size() const { return size_; }
  __device__ bool accepts_all() const { return accepts_all_; }
  // Nothing can be larger than what the list holds.
  __device__ bool saturated() const { return saturated_; }
  __device__ float threshold() const { return threshold_; }

  // Adds the items of a tile whose bits are set in `mask` (bit i: x[i]); id(i) is item i's id.
  // Called by all threads.
  template <class Layout, class Id>
  __device__ void add(const float (&x)[topk_items], std::uint32_t mask, Id id) {
    if (__syncthreads_or(static_cast<int>(mask)) == 0) return;
    topk_counts mine{0, tile_counts<Layout>(mask)}, before, total;
    count_scan(s_.counts).ExclusiveSum(mine, before, total);
    const std::uint32_t count = counters_before(total.tile, topk_windows);
    if (size_ + count > topk_capacity) {
      select<Layout>(x, mask, id);
      return;
    }
    store<Layout>(x, mask, id, before.tile, total.tile, size_);
    size_ += count;
  }

  // Brings the list to its k best, if it holds more. Called by all threads.
  __device__ void finish() {
    if (size_ <= k_) {
      __syncthreads();
      return;
    }
    const float none[topk_items] = {};
    select<topk_layout<4>>(none, 0, [](int) { return 0; });
    __syncthreads();
  }

 private:
  template <std::uint32_t Value>
  using constant = std::integral_constant<std::uint32_t, Value>;

  template <class Layout>
  __device__ static std::uint64_t tile_counts(std::uint32_t mask) {
    std::uint64_t counts = 0;
#pragma unroll
    for (int w = 0; w < Layout::tile_windows; ++w) {
      const std::uint32_t window = (mask >> (w * Layout::vector)) & ((1u << Layout::vector) - 1);
      counts |= static_cast<std::uint64_t>(__popc(window)) << (16 * w);
    }
    return counts;
  }

  // Writes the masked items of the tile behind the first `base` entries, in order of id.
  template <class Layout, class Id>
  __device__ void store(const float (&x)[topk_items], std::uint32_t mask, Id id,
                        std::uint64_t before, std::uint64_t total, std::uint32_t base) {
    if (mask == 0) return;
#pragma unroll
    for (int w = 0; w < Layout::tile_windows; ++w) {
      std::uint32_t at = base + counters_before(total, w) + counter(before, w);
#pragma unroll
      for (int e = 0; e < Layout::vector; ++e) {
        const int i = w * Layout::vector + e;
        if ((mask >> i & 1) != 0) {
          s_.values[at] = x[i];
          s_.ids[at] = id(i);
          ++at;
        }
      }
    }
  }

  // Finds in the bins, from the top, where the need-th item lies.
  __device__ void choose_bin(std::uint32_t need) {
    const std::uint32_t top = topk_bins - 1 - threadIdx.x * topk_thread_bins;
    std::uint32_t sum = 0, before;
#pragma unroll
    for (int b = 0; b < topk_thread_bins; ++b) sum += s_.bins[top - b];
    bin_scan(s_.bin_sums).ExclusiveSum(sum, before);
    if (before < need && need <= before + sum) {
      std::uint32_t bin = top;
      while (before + s_.bins[bin] < need) before += s_.bins[bin--];
      s_.chosen_bin = bin;
      s_.chosen_rest = need - before;
      s_.chosen_whole = s_.bins[bin] == need - before;
    }
    __syncthreads();
  }

  template <class Layout, class Id>
  __device__ __forceinline__ void select(const float (&x)[topk_items], std::uint32_t mask, Id id) {
    __syncthreads();  // the list is complete
    std::uint32_t keys[topk_items];
#pragma unroll
    for (int i = 0; i < topk_items; ++i) keys[i] = (mask >> i & 1) != 0 ? key_of(x[i]) : 0;
    float values[topk_windows];
    std::int32_t ids[topk_windows];
    std::uint32_t list_keys[topk_windows];
#pragma unroll
    for (int w = 0; w < topk_windows; ++w) {
      const std::uint32_t e = w * topk_threads + threadIdx.x;
      list_keys[w] = 0;
      if (e < size_) {
        values[w] = s_.values[e];
        ids[w] = s_.ids[e];
        list_keys[w] = key_of(values[w]);
      }
    }
    // Digit by digit from the top, until the digits so far say which k items are kept.
    std::uint32_t prefix = 0, need = k_;
    bool whole = false;
    const auto digit = [&](auto shift, auto bits) {
      constexpr std::uint32_t low = decltype(shift)::value, width = decltype(bits)::value;
      if (whole) return;
#pragma unroll
      for (int b = 0; b < topk_thread_bins; ++b) s_.bins[b * topk_threads + threadIdx.x] = 0;
      __syncthreads();
#pragma unroll
      for (int i = 0; i < topk_items; ++i) count_digit<low, width>(keys[i], prefix);
#pragma unroll
      for (int w = 0; w < topk_windows; ++w) count_digit<low, width>(list_keys[w], prefix);
      __syncthreads();
      choose_bin(need);
      prefix |= s_.chosen_bin << low;
      need = s_.chosen_rest;
      whole = s_.chosen_whole != 0;
    };
    digit(constant<21>{}, constant<11>{});
    digit(constant<10>{}, constant<11>{});
    digit(constant<0>{}, constant<10>{});
    keep<Layout>(x, keys, values, ids, list_keys, prefix, whole ? 0xffffffffu : need, id);
  }

  // Counts an item whose digits above this one are those of `prefix`. Key 0 is no item; the first
  // digit of the k-th item is never 0, so that only the first digit must look for it.
  template <std::uint32_t Low, std::uint32_t Width>
  __device__ void count_digit(std::uint32_t key, std::uint32_t prefix) {
    constexpr std::uint32_t above = Low + Width;
    bool counted = key != 0;
    if constexpr (above < 32) counted = (key >> above) == (prefix >> above);
    if (counted) atomicAdd(&s_.bins[key >> Low & ((1u << Width) - 1)], 1u);
  }

  // Makes the list of the items above key `worst`, and of the first `ties` that equal it, or, if
  // that is ~0, of all from `worst` on.
  template <class Layout, class Id>
  __device__ __forceinline__ void keep(const float (&x)[topk_items],
                                       const std::uint32_t (&keys)[topk_items],
                                       const float (&values)[topk_windows],
                                       const std::int32_t (&ids)[topk_windows],
                                       const std::uint32_t (&list_keys)[topk_windows],
                                       std::uint32_t worst, std::uint32_t ties, Id id) {
    const bool all = ties == 0xffffffffu;
    std::uint32_t taken = 0, list_taken = 0, tied = 0, list_tied = 0;
#pragma unroll
    for (int i = 0; i < topk_items; ++i) {
      taken |= static_cast<std::uint32_t>(keys[i] > worst || (all && keys[i] == worst)) << i;
      tied |= static_cast<std::uint32_t>(keys[i] == worst) << i;
    }
#pragma unroll
    for (int w = 0; w < topk_windows; ++w) {
      list_taken |=
          static_cast<std::uint32_t>(list_keys[w] > worst || (all && list_keys[w] == worst)) << w;
      list_tied |= static_cast<std::uint32_t>(list_keys[w] == worst) << w;
    }
    topk_counts before, total;
    if (!all) {
      count_scan(s_.counts).ExclusiveSum({list_counts(list_tied), tile_counts<Layout>(tied)},
                                         before, total);
      __syncthreads();
      list_taken |= first_of<1, topk_windows>(list_tied, before.list, total.list, 0, ties);
      taken |= first_of<Layout::vector, Layout::tile_windows>(
          tied, before.tile, total.tile, counters_before(total.list, topk_windows), ties);
    }
    count_scan(s_.counts).ExclusiveSum({list_counts(list_taken), tile_counts<Layout>(taken)},
                                       before, total);
#pragma unroll
    for (int w = 0; w < topk_windows; ++w) {
      if ((list_taken >> w & 1) != 0) {
        const std::uint32_t at = counters_before(total.list, w) + counter(before.list, w);
        s_.values[at] = values[w];
        s_.ids[at] = ids[w];
      }
    }
    store<Layout>(x, taken, id, before.tile, total.tile, counters_before(total.list, topk_windows));
    size_ = k_;
    accepts_all_ = false;
    // With `all`, `worst` is a lower bound of the keys kept, and need not be the key of a number.
    saturated_ = worst > key_of_infinity;
    threshold_ = value_of(max(worst, key_of_minus_infinity));
    __syncthreads();
  }

  __device__ static std::uint64_t list_counts(std::uint32_t mask) {
    return static_cast<std::uint64_t>(mask & 1) | static_cast<std::uint64_t>(mask >> 1 & 1) << 16 |
           static_cast<std::uint64_t>(mask >> 2 & 1) << 32 |
           static_cast<std::uint64_t>(mask >> 3 & 1) << 48;
  }

  // The bits of `mask` whose rank in order of id, beginning with `base`, is below `limit`.
  template <int Vector, int Windows>
  __device__ static std::uint32_t first_of(std::uint32_t mask, std::uint64_t before,
                                           std::uint64_t total, std::uint32_t base,
                                           std::uint32_t limit) {
    if (mask == 0) return 0;
    std::uint32_t result = 0;
#pragma unroll
    for (int w = 0; w < Windows; ++w) {
      std::uint32_t rank = base + counters_before(total, w) + counter(before, w);
#pragma unroll
      for (int e = 0; e < Vector; ++e) {
        const std::uint32_t bit = mask >> (w * Vector + e) & 1;
        result |= (rank < limit ? bit : 0) << (w * Vector + e);
        rank += bit;
      }
    }
    return result;
  }

  storage& s_;
  std::uint32_t k_;
  std::uint32_t size_ = 0;
  bool accepts_all_ = true;
  bool saturated_ = false;
  float threshold_ = 0;
};

}  // namespace radixkv::kernels
