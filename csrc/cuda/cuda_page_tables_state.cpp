// Creation, changes, and what is enqueued.
#include "csrc/cuda/cuda_page_tables_state.h"

#include <algorithm>
#include <limits>
#include <new>
#include <string>
#include <utility>

#include "csrc/core/no_memory.h"
#include "csrc/core/range_check.h"
#include "csrc/cuda/synchronize.h"

namespace radixkv {

using detail::check_range;

RADIXKV_EXPORT status cuda_page_tables_options::validate() const try {
  constexpr std::int64_t max32 = std::numeric_limits<std::int32_t>::max();
  if (status s = check_range("page tables: rows", rows, 1, 1 << 24); !s) return s;
  if (status s = check_range("page tables: block_tokens", block_tokens, 1, max_block_tokens); !s)
    return s;
  if (status s = check_range("page tables: row_blocks", row_blocks, 1, max32 / block_tokens); !s)
    return s;
  if (status s =
          check_range("page tables: rows × row_blocks", std::int64_t{rows} * row_blocks, 1, max32);
      !s) {
    return s;
  }
  if (status s = check_range("page tables: max_batch", max_batch, 1, 1 << 20); !s) return s;
  if (status s = check_range("page tables: staging_slots", staging_slots, 1, 4096); !s) return s;
  return check_range("page tables: slot_changes", slot_changes, 1, 1 << 20);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say what is wrong");
}

namespace detail {

cuda_page_tables_state::~cuda_page_tables_state() {
  const device_scope scope(device_);
  (void)synchronize();
  ring_ = {};
  blocks_memory_.reset();
  tokens_memory_.reset();
  scratch_.reset();
}

status cuda_page_tables_state::create(const cuda_page_tables_options& o) {
  if (status s = o.validate(); !s) return s;
  options_ = o;
  if (const cudaError_t e = cudaGetDevice(&device_); e != cudaSuccess) {
    return device_error("no CUDA device", e);
  }
  const auto entries =
      static_cast<std::uint64_t>(o.rows) * static_cast<std::uint64_t>(o.row_blocks);
  auto blocks = allocate_device("the page tables", entries * sizeof(block_id));
  if (!blocks) return blocks.error();
  blocks_memory_ = std::move(*blocks);
  auto tokens = allocate_device("the sequences' lengths", static_cast<std::uint64_t>(o.rows) * 4);
  if (!tokens) return tokens.error();
  tokens_memory_ = std::move(*tokens);
  if (const cudaError_t e = kernels::page_table_scratch_bytes(o.max_batch, scratch_bytes_);
      e != cudaSuccess) {
    return device_error("asking for the scratch of page tables", e);
  }
  auto scratch = allocate_device("the scratch of page tables", scratch_bytes_);
  if (!scratch) return scratch.error();
  scratch_ = std::move(*scratch);
  const auto padded = [](std::uint64_t bytes) { return (bytes + 255) / 256 * 256; };
  // Changes are read from where they are; only a batch's rows are copied.
  const std::uint64_t row_bytes = padded(std::uint64_t{o.max_batch} * sizeof(std::int32_t));
  const std::uint64_t change_bytes =
      padded(std::uint64_t{o.slot_changes} * sizeof(kernels::page_table_delta));
  if (status s = ring_.create(o.staging_slots, std::max(change_bytes, row_bytes), row_bytes); !s) {
    return s;
  }
  store_ = {reinterpret_cast<std::int32_t*>(blocks_memory_.get()),
            reinterpret_cast<std::int32_t*>(tokens_memory_.get()), o.rows, o.row_blocks,
            static_cast<std::int32_t>(o.block_tokens)};
  if (status s = load_kernels(); !s) return s;
  if (const cudaError_t e = cudaStreamSynchronize(cudaStreamLegacy); e != cudaSuccess) {
    return device_error("clearing the page tables", e);
  }
  blocks_.assign(entries, 0);
  rows_.resize(static_cast<std::size_t>(o.rows));
  dirty_rows_.reserve(static_cast<std::size_t>(o.rows));
  return {};
}

status cuda_page_tables_state::load_kernels() {
  cudaError_t e = kernels::load_page_table();
  if (e == cudaSuccess) {
    // The table of no sequence is one zero, as is what lies there.
    kernels::page_table_csr_arguments nothing;
    nothing.indptr = nothing.indices = nothing.last_page_len = store_.blocks;
    nothing.scratch = scratch_.get();
    nothing.scratch_bytes = scratch_bytes_;
    e = kernels::page_table_csr(cudaStreamLegacy, store_, {}, nothing);
  }
  return e == cudaSuccess ? status{} : device_error("loading the kernels of page tables", e);
}

status cuda_page_tables_state::set(std::int32_t row, std::span<const block_id> table,
                                   std::int64_t tokens, std::int32_t unchanged) {
  if (status s = check_range("page tables: row", row, 0, options_.rows - 1); !s) return s;
  const std::int64_t capacity = std::int64_t{options_.row_blocks} * options_.block_tokens;
  if (status s = check_range("page tables: tokens", tokens, 0, capacity); !s) return s;
  const std::int64_t used = (tokens + options_.block_tokens - 1) / options_.block_tokens;
  if (static_cast<std::int64_t>(table.size()) < used) {
    return {errc::invalid_argument, "page tables: " + std::to_string(tokens) + " tokens need " +
                                        std::to_string(used) + " blocks, the table has " +
                                        std::to_string(table.size())};
  }
  if (status s = check_range("page tables: unchanged", unchanged, 0, used); !s) return s;
  for (std::int64_t i = unchanged; i < used; ++i) {
    if (status s = check_range("page tables: block", table[static_cast<std::size_t>(i)], 0,
                               max_blocks - 1);
        !s) {
      return s;
    }
  }
  const std::lock_guard lock(mutex_);
  row_state& r = rows_[static_cast<std::size_t>(row)];
  block_id* kept = blocks_.data() + std::int64_t{row} * options_.row_blocks;
  bool changed = r.tokens != static_cast<std::int32_t>(tokens);
  for (std::int32_t i = unchanged; i < used; ++i) {
    if (kept[i] == table[static_cast<std::size_t>(i)]) continue;
    kept[i] = table[static_cast<std::size_t>(i)];
    const bool empty = r.dirty_begin == r.dirty_end;
    r.dirty_begin = empty ? i : std::min(r.dirty_begin, i);
    r.dirty_end = empty ? i + 1 : std::max(r.dirty_end, i + 1);
    changed = true;
  }
  r.tokens = static_cast<std::int32_t>(tokens);
  if (changed && !r.dirty) {
    r.dirty = true;
    dirty_rows_.push_back(row);
  }
  return {};
}

std::uint32_t cuda_page_tables_state::stage_changes(kernels::page_table_delta* out) const {
  std::uint32_t n = 0;
  for (std::size_t i = dirty_rows_.size(); i > 0; --i) {
    const std::int32_t row = dirty_rows_[i - 1];
    const row_state& r = rows_[static_cast<std::size_t>(row)];
    // The last change of a row carries its tokens; a row that does not fit goes on in the next
    // slot.
    const block_id* kept = blocks_.data() + std::int64_t{row} * options_.row_blocks;
    for (std::int32_t p = r.dirty_begin; p < r.dirty_end; ++p) {
      if (n == options_.slot_changes) return n;
      out[n++] = {row, p, kept[p], p + 1 == r.dirty_end ? r.tokens : -1};
    }
    if (r.dirty_begin == r.dirty_end) {
      if (n == options_.slot_changes) return n;
      out[n++] = {row, -1, 0, r.tokens};
    }
  }
  return n;
}

void cuda_page_tables_state::forget_changes(std::uint32_t count) {
  while (count > 0) {
    row_state& r = rows_[static_cast<std::size_t>(dirty_rows_.back())];
    const auto changes = static_cast<std::uint32_t>(std::max(1, r.dirty_end - r.dirty_begin));
    if (count < changes) {
      r.dirty_begin += static_cast<std::int32_t>(count);
      return;
    }
    count -= changes;
    r.dirty_begin = r.dirty_end = 0;
    r.dirty = false;
    dirty_rows_.pop_back();
  }
}

status cuda_page_tables_state::enter(cudaStream_t stream) {
  if (status s = refuse_capture(stream, "page tables are not captured"); !s) return s;
  if (status s = check_stream(stream, device_); !s) return s;
  if (status s = ring_.available(1); !s) return s;
  return order_.enter(stream);
}

status cuda_page_tables_state::leave(cudaStream_t stream, const char* what, cudaError_t failed) {
  if (status s = order_.leave(stream, ring_.last_event(), what); !s) return s;
  if (failed == cudaErrorInvalidValue || failed == cudaErrorMisalignedAddress) {
    return {errc::invalid_argument, std::string(what) + ": " + cudaGetErrorString(failed)};
  }
  if (failed != cudaSuccess) return device_error(what, failed);
  return {};
}

status cuda_page_tables_state::update(cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  const device_scope scope(device_);
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  const relaxed_capture_scope relaxed;
  while (!dirty_rows_.empty()) {
    if (status s = enter(stream); !s) return s;
    const staging_ring::slot slot = ring_.take();
    auto* const changes = reinterpret_cast<kernels::page_table_delta*>(slot.host);
    const std::uint32_t n = stage_changes(changes);
    // Read once, so from where they are.
    const cudaError_t failed =
        kernels::page_table_update(stream, store_, changes, n, nullptr, nullptr);
    if (status s = leave(stream, "updating the page tables", failed); !s) return s;
    forget_changes(n);
  }
  return {};
}

template <class Launch>
status cuda_page_tables_state::build(cudaStream_t stream, std::span<const std::int32_t> rows,
                                     const char* what, Launch launch) {
  if (status s = check_range("page tables: batch", static_cast<std::int64_t>(rows.size()), 0,
                             options_.max_batch);
      !s) {
    return s;
  }
  for (const std::int32_t row : rows) {
    if (status s = check_range("page tables: row", row, -1, options_.rows - 1); !s) return s;
  }
  const std::lock_guard lock(mutex_);
  const device_scope scope(device_);
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  const relaxed_capture_scope relaxed;
  if (!dirty_rows_.empty()) {
    return {errc::invalid_argument, "page tables: " + std::to_string(dirty_rows_.size()) +
                                        " rows were set and not updated"};
  }
  if (status s = enter(stream); !s) return s;
  const staging_ring::slot slot = ring_.take();
  cudaError_t failed = cudaSuccess;
  if (!rows.empty()) {
    std::copy(rows.begin(), rows.end(), reinterpret_cast<std::int32_t*>(slot.host));
    failed =
        cudaMemcpyAsync(slot.device, slot.host, rows.size_bytes(), cudaMemcpyHostToDevice, stream);
  }
  if (failed == cudaSuccess) {
    failed = launch(kernels::page_table_batch{reinterpret_cast<const std::int32_t*>(slot.device),
                                              static_cast<std::uint32_t>(rows.size())});
  }
  return leave(stream, what, failed);
}

status cuda_page_tables_state::dense(cudaStream_t stream, std::span<const std::int32_t> rows,
                                     std::int32_t* out, std::int64_t out_stride, std::int32_t width,
                                     std::int32_t padding) {
  return build(stream, rows, "building the dense page table", [&](const auto& batch) {
    return kernels::page_table_dense(stream, store_, batch, out, out_stride, width, padding);
  });
}

status cuda_page_tables_state::csr(cudaStream_t stream, std::span<const std::int32_t> rows,
                                   std::int32_t* indptr, std::int32_t* indices,
                                   std::int64_t index_capacity, std::int32_t* last_page_len) {
  if (rows.size() <= options_.max_batch) {  // build refuses others
    if (status s = check_range("page tables: rows of the batch × row_blocks",
                               static_cast<std::int64_t>(rows.size()) * options_.row_blocks, 0,
                               std::numeric_limits<std::int32_t>::max());
        !s) {
      return s;
    }
  }
  return build(stream, rows, "building the CSR page table", [&](const auto& batch) {
    return kernels::page_table_csr(
        stream, store_, batch,
        {indptr, indices, last_page_len, index_capacity, scratch_.get(), scratch_bytes_});
  });
}

status cuda_page_tables_state::synchronize() noexcept {
  return synchronize_calls(device_, mutex_, order_, ring_);
}

}  // namespace detail

}  // namespace radixkv
