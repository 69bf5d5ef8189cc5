#include "csrc/core/block_compare.h"

#include <atomic>

#include "csrc/core/processor.h"
#include "csrc/core/streams.h"
#include "csrc/core/token_ops.h"

namespace radixkv::detail {

namespace {

// Says of which ids the processor will not see the rows coming: the first that follow one another,
// and those at the begin of a page.
class unseen_rows {
 public:
  explicit unseen_rows(std::uint32_t first_id) noexcept : next_(first_id) {}
  [[nodiscard]] bool operator()(std::uint32_t id, const std::uint32_t* row) noexcept {
    left_ = id != next_ ? lines_unseen : left_ - (left_ > 0);
    next_ = id + 1;
    return left_ > 0 || is_begin_of_page(row);
  }

 private:
  std::uint32_t next_;
  std::uint32_t left_ = 0;
};

std::size_t equal_any(const block_stretch& s) noexcept {
  std::size_t i = 0;
  for (; i < s.blocks; ++i) {
    prefetch(s.later_tokens + (i << s.shift));
    prefetch(s.rows + (std::size_t{load_word(s.later_ids + i)} << s.shift));
    const std::uint32_t id = load_word(s.ids + i);
    if (id >= s.limit) break;
    if (!equal_block(s.tokens + (i << s.shift), s.rows + (std::size_t{id} << s.shift), s.shift)) {
      break;
    }
  }
  return i;
}

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)

// Blocks of 16 tokens, which are a cache line.
template <bool only_begins>
[[gnu::target("avx2")]] std::size_t equal_lines_avx2(const block_stretch& s) noexcept {
  constexpr int shift = 4;
  const block_stretch x = s;
  unseen_rows unseen(load_word(x.later_ids));
  std::size_t i = 0;
  for (; i < x.blocks; ++i) {
    const std::uint32_t* const later = x.later_tokens + (i << shift);
    const std::uint32_t later_id = load_word(x.later_ids + i);
    const std::uint32_t* const later_row = x.rows + (std::size_t{later_id} << shift);
    if constexpr (only_begins) {
      if (is_begin_of_page(later)) __builtin_prefetch(later, 0, 2);
      if (unseen(later_id, later_row)) __builtin_prefetch(later_row, 0, 2);
    } else {
      prefetch(later);
      prefetch(later_row);
    }
    const std::uint32_t id = load_word(x.ids + i);
    if (id >= x.limit) break;
    if (!equal_16_avx2(x.tokens + (i << shift), x.rows + (std::size_t{id} << shift))) break;
  }
  return i;
}

std::size_t choose(const block_stretch& s) noexcept;

// Chosen at the first call, which may come before main().
constinit std::atomic<block_comparison> equal_lines{choose};

std::size_t choose(const block_stretch& s) noexcept {
  const block_comparison best = !supports_avx2() ? equal_any
                                : is_amd()       ? equal_lines_avx2<true>
                                                 : equal_lines_avx2<false>;
  equal_lines.store(best, std::memory_order_relaxed);
  return best(s);
}

constexpr block_comparison_form forms[] = {{"any", any_shift, equal_any},
                                           {"avx2, every line fetched", 4, equal_lines_avx2<false>},
                                           {"avx2, begins fetched", 4, equal_lines_avx2<true>}};

#else

constexpr std::atomic<block_comparison> equal_lines{equal_any};
constexpr block_comparison_form forms[] = {{"any", any_shift, equal_any}};

#endif

}  // namespace

std::span<const block_comparison_form> block_comparison_forms() noexcept {
  std::span<const block_comparison_form> all = forms;
  if (!supports_avx2()) all = all.first(1);
  return all;
}

std::size_t equal_blocks(const block_stretch& s) noexcept {
  if (s.blocks == 0) return 0;
  return s.shift == 4 ? equal_lines.load(std::memory_order_relaxed)(s) : equal_any(s);
}

}  // namespace radixkv::detail
