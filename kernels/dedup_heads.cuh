// A table that finds, for the hash of a prefix, the lowest prompt of the batch that has it.
//
// 1. An entry is the low half of a hash and a prompt, in one word, or no_head. It stands at or
// behind the hash's home, with no empty entry between (linear probing); at most half of the entries
// are in use.
// 2. Its half of a hash never changes once it is set, its prompt only falls. So entries are read
// without an order: whoever reads an old one finds out by the atomic that follows, or does what
// changes nothing.
// 3. Prefixes whose halves are equal and whose places are near each other share an entry. Tokens
// are compared later.
#pragma once

#include <cstdint>

#include "kernels/dedup_job.cuh"

namespace radixkv::kernels {

// Calls `visit` with the entries of a hash's probe, one after the other, until it gives true.
template <class Visit>
__device__ void probe_heads(const dedup_job& job, std::uint64_t key, Visit visit) {
  const auto wrap = static_cast<std::uint32_t>((std::uint64_t{1} << job.log2_heads) - 1);
  std::uint32_t at = home_slot(key, job.log2_heads);
  while (!visit(job.memory.heads + at)) at = (at + 1) & wrap;
}

__device__ inline void add_head(const dedup_job& job, std::uint64_t key, std::uint32_t prompt) {
  const unsigned long long mine = key << 32 | prompt;
  probe_heads(job, key, [mine](unsigned long long* entry) {
    unsigned long long found = *reinterpret_cast<volatile unsigned long long*>(entry);
    if (found == no_head) found = atomicCAS(entry, no_head, mine);
    if (found == no_head) return true;
    if ((found ^ mine) >> 32 != 0) return false;
    if (mine < found) atomicMin(entry, mine);
    return true;
  });
}

// REQUIRES: the key was added, by a launch before.
__device__ inline std::uint32_t head_of(const dedup_job& job, std::uint64_t key) {
  std::uint32_t prompt = no_prompt;
  probe_heads(job, key,
              [&prompt, half = static_cast<std::uint32_t>(key)](const unsigned long long* entry) {
                const unsigned long long found = *entry;
                if (found != no_head && static_cast<std::uint32_t>(found >> 32) != half)
                  return false;
                prompt = static_cast<std::uint32_t>(found);
                return true;
              });
  return prompt;
}

}  // namespace radixkv::kernels
