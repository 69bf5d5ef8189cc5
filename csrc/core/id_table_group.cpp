// Look-ups of several hashes at once, for those who look far ahead.
#include "csrc/core/id_table.h"
#include "csrc/core/processor.h"

namespace radixkv::detail {

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)

struct id_table_avx2 {
  // Of a whole group. A line whose entries have moved is empty.
  [[gnu::target("avx2")]] static void first_of(const id_table::reader& table,
                                               const std::uint32_t* hashes,
                                               std::uint32_t* ids) noexcept {
    const slot_line::slot* const slots = table.slots_;
    const int shift = table.shift_;
    for (std::size_t i = 0; i < id_table::reader::group; ++i) {
      const std::uint32_t hash = hashes[i];
      const slot_line::slot* const line = slots + std::size_t{hash >> shift} * slot_line::size;
      const auto* const x = reinterpret_cast<const __m256i*>(line);
      const __m256i wanted = _mm256_set1_epi32(static_cast<int>(hash));
      const __m256i a = _mm256_cmpeq_epi32(_mm256_load_si256(x), wanted);
      const __m256i b = _mm256_cmpeq_epi32(_mm256_load_si256(x + 1), wanted);
      const auto words =
          static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(a)) |
                                     _mm256_movemask_ps(_mm256_castsi256_ps(b)) << slot_line::size);
      const std::uint32_t same = words & 0xaaaau;  // the upper word of a slot is its hash
      // Hash 0 is that of empty slots, too; and what is not in its home line may be in the next, or
      // have moved.
      if (same == 0 || hash == 0) [[unlikely]] {
        ids[i] = table.first(hash);
        continue;
      }
      count_lookups();
      ids[i] = slot_line::id(line[slot_line::first(same)].load(std::memory_order_relaxed));
    }
  }
};

#endif

void id_table::reader::first_of(std::span<const std::uint32_t> hashes,
                                std::uint32_t* ids) const noexcept {
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
  if (hashes.size() == group && have_avx2) {
    id_table_avx2::first_of(*this, hashes.data(), ids);
    return;
  }
#endif
  for (std::size_t i = 0; i < hashes.size(); ++i) ids[i] = first(hashes[i]);
}

}  // namespace radixkv::detail
