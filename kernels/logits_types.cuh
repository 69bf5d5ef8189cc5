// Element types on the device: four elements at a time to and from fp32.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/segment_mover.cuh"

namespace radixkv::kernels {

// `packed`: four elements as they lie in memory.
struct fp32_elements {
  using element = float;
  using packed = uint4;
  __device__ static float4 widen(packed p) {
    return {__uint_as_float(p.x), __uint_as_float(p.y), __uint_as_float(p.z), __uint_as_float(p.w)};
  }
  __device__ static packed narrow(float4 f) {
    return {__float_as_uint(f.x), __float_as_uint(f.y), __float_as_uint(f.z), __float_as_uint(f.w)};
  }
};

struct fp16_elements {
  using element = __half;
  using packed = uint2;
  __device__ static float4 widen(packed p) {
    const float2 a = __half22float2(reinterpret_cast<const __half2&>(p.x));
    const float2 b = __half22float2(reinterpret_cast<const __half2&>(p.y));
    return {a.x, a.y, b.x, b.y};
  }
  __device__ static packed narrow(float4 f) {
    const __half2 a = __floats2half2_rn(f.x, f.y), b = __floats2half2_rn(f.z, f.w);
    return {reinterpret_cast<const std::uint32_t&>(a), reinterpret_cast<const std::uint32_t&>(b)};
  }
};

struct bf16_elements {
  using element = __nv_bfloat16;
  using packed = uint2;
  __device__ static float4 widen(packed p) {
    return {__uint_as_float(p.x << 16), __uint_as_float(p.x & 0xffff0000u),
            __uint_as_float(p.y << 16), __uint_as_float(p.y & 0xffff0000u)};
  }
  __device__ static packed narrow(float4 f) {
    const __nv_bfloat162 a = __floats2bfloat162_rn(f.x, f.y), b = __floats2bfloat162_rn(f.z, f.w);
    return {reinterpret_cast<const std::uint32_t&>(a), reinterpret_cast<const std::uint32_t&>(b)};
  }
};

template <class Elements>
__device__ float widen_one(typename Elements::element e) {
  return static_cast<float>(e);
}
template <class Elements>
__device__ typename Elements::element narrow_one(float f) {
  return static_cast<typename Elements::element>(f);
}

// Four elements are a vector: 16 bytes on an fp32 side, 8 on the other.
template <class Source, class Destination>
struct convert_access {
  static constexpr std::uint32_t source_unit = sizeof(typename Source::element);
  static constexpr std::uint32_t destination_unit = sizeof(typename Destination::element);
  static constexpr std::uint32_t vector_units = 4;
  using vector = typename Source::packed;

  const std::byte* source;
  std::byte* destination;

  __device__ static vector load(const std::byte* p) { return *reinterpret_cast<const vector*>(p); }
  __device__ static uint4 words(vector v) { return fp32_elements::narrow(Source::widen(v)); }
  __device__ static void store(std::byte* p, uint4 v) {
    *reinterpret_cast<typename Destination::packed*>(p) =
        Destination::narrow(fp32_elements::widen(v));
  }
  __device__ void move_unit(std::uint32_t u) const {
    using from = const typename Source::element;
    using to = typename Destination::element;
    reinterpret_cast<to*>(destination)[u] =
        narrow_one<Destination>(widen_one<Source>(reinterpret_cast<from*>(source)[u]));
  }
};

}  // namespace radixkv::kernels
