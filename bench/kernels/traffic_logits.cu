// Traffic of logits_cache: every pair of types, a vocabulary that is a multiple of everything and
// one that is odd, so that no two rows have the same alignment.

#include <string>

#include "bench/kernels/bench_memory.h"
#include "bench/kernels/traffic_case.h"
#include "kernels/logits_cache.h"

namespace radixkv::bench {
namespace {

using kernels::bytes_of;
using kernels::element_type;

constexpr std::uint32_t row_count = 4;
constexpr std::int32_t slot_count = 8;

// 1.0 in each type, so that a row that arrived is recognised without converting on the host.
std::vector<std::byte> ones(element_type t, std::size_t elements) {
  const std::vector<std::byte> one =
      t == element_type::fp32
          ? std::vector<std::byte>{std::byte{0}, std::byte{0}, std::byte{0x80}, std::byte{0x3f}}
      : t == element_type::fp16 ? std::vector<std::byte>{std::byte{0}, std::byte{0x3c}}
                                : std::vector<std::byte>{std::byte{0x80}, std::byte{0x3f}};
  std::vector<std::byte> all;
  all.reserve(elements * one.size());
  for (std::size_t i = 0; i < elements; ++i) all.insert(all.end(), one.begin(), one.end());
  return all;
}

traffic_result run(element_type from, element_type to, std::uint32_t vocabulary, bool scatter) {
  const std::size_t source_rows = scatter ? row_count : slot_count;
  const std::size_t destination_rows = scatter ? slot_count : row_count;
  bench_memory<std::byte> source(source_rows * vocabulary * bytes_of(from));
  bench_memory<std::byte> destination(destination_rows * vocabulary * bytes_of(to));
  bench_memory<std::int32_t> slots(row_count);
  const std::vector<std::byte> content = ones(from, source_rows * vocabulary);
  source.upload(content.data(), content.size());
  const std::vector<std::byte> zeros(destination.size());
  destination.upload(zeros.data(), zeros.size());
  const std::int32_t order[row_count] = {5, 0, 7, 2};
  slots.upload(order, row_count);

  kernels::logits_arguments a;
  a.rows = scatter ? source.data() : destination.data();
  a.store = scatter ? destination.data() : source.data();
  a.row_type = scatter ? from : to;
  a.slot_type = scatter ? to : from;
  a.row_stride = a.slot_stride = vocabulary;
  a.row_count = row_count;
  a.slot_count = slot_count;
  a.vocabulary = vocabulary;
  a.slots = slots.data();
  traffic_result result;
  result.bytes_minimal = static_cast<double>(row_count) * vocabulary *
                         static_cast<double>(bytes_of(from) + bytes_of(to));
  const cudaError_t error =
      scatter ? kernels::logits_scatter(nullptr, a) : kernels::logits_gather(nullptr, a);
  if (error != cudaSuccess) {
    result.error = cudaGetErrorString(error);
    return result;
  }
  std::vector<std::byte> wanted = zeros;
  const std::vector<std::byte> row = ones(to, vocabulary);
  for (std::uint32_t r = 0; r < row_count; ++r) {
    const std::size_t at = scatter ? static_cast<std::size_t>(order[r]) : r;
    std::copy(row.begin(), row.end(),
              wanted.begin() + static_cast<std::ptrdiff_t>(at * row.size()));
  }
  if (destination.download() != wanted) result.error = "wrong elements";
  return result;
}

const traffic_registrar cases([](std::vector<traffic_case>& all) {
  constexpr std::pair<element_type, const char*> types[] = {
      {element_type::fp32, "fp32"}, {element_type::fp16, "fp16"}, {element_type::bf16, "bf16"}};
  for (const auto& [from, from_name] : types) {
    for (const auto& [to, to_name] : types) {
      const std::string pair = std::string(from_name) + "_" + to_name;
      all.push_back({"logits_cache", "scatter_" + pair, "logits_move_kernel",
                     [from = from, to = to] { return run(from, to, 131072, true); }});
      all.push_back({"logits_cache", "gather_odd_" + pair, "logits_move_kernel",
                     [from = from, to = to] { return run(from, to, 128257, false); }});
    }
  }
});

}  // namespace
}  // namespace radixkv::bench
