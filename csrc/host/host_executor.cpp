#include "radixkv/host_executor.h"

#include <cassert>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "csrc/core/no_memory.h"
#include "csrc/core/range_check.h"
#include "csrc/host/host_memory.h"
#include "csrc/host/logits_convert.h"
#include "kernels/address.h"

namespace radixkv {

using detail::host_memory;
using kernels::plane;
using kernels::token_address;

namespace {

// Rows of the store start at cache lines.
constexpr std::uint64_t logits_alignment = 64;

std::uint64_t logits_stride(const memory_layout& layout) {
  return (layout.logits_row_bytes() + logits_alignment - 1) / logits_alignment * logits_alignment;
}

// Bounds of the batch's rows against the moves that use them.
status check_batch(const step_plan& plan, const memory_layout& layout, const logits_rows_view& b) {
  if (plan.logits.empty()) return {};
  if (b.data == nullptr) return {errc::invalid_argument, "batch: logits moves without rows (null)"};
  if (b.type > logits_type::bf16) {
    return {errc::invalid_argument,
            "batch: logits type " + std::to_string(static_cast<int>(b.type)) + " is not in [0, 2]"};
  }
  const std::int64_t row_bytes =
      std::int64_t{layout.vocabulary} * static_cast<std::int64_t>(bytes_of(b.type));
  if (b.rows > 1) {
    const std::int64_t limit = std::numeric_limits<std::int64_t>::max() / b.rows;
    if (status s =
            detail::check_range("batch: row_stride_bytes", b.row_stride_bytes, row_bytes, limit);
        !s) {
      return s;
    }
  }
  for (std::size_t i = 0; i < plan.logits.size(); ++i) {
    if (plan.logits[i].row >= b.rows) {
      return {errc::invalid_argument, "plan: logits move " + std::to_string(i) + ": row " +
                                          std::to_string(plan.logits[i].row) + " is not in [0, " +
                                          std::to_string(b.rows) + ") of the batch"};
    }
  }
  return {};
}

}  // namespace

struct host_executor::state {
  memory_layout layout;
  std::vector<plane> planes;
  host_memory kv;  // empty when borrowed
  host_memory logits;
  std::uint64_t logits_stride = 0;
  std::int64_t operations_run = 0;
  std::int64_t failing = -1;

  [[nodiscard]] std::byte* slot(logits_slot s) const {
    return logits.data() + static_cast<std::uint64_t>(s) * logits_stride;
  }

  // True if the next operation is the one to fail.
  bool fails() { return failing >= 0 && failing-- == 0; }

  void copy(const block_copy& c) const {
    for (const plane& p : planes) {
      const std::size_t bytes = std::size_t{c.tokens} * p.bytes_per_token;
      for (std::uint32_t inner = 0; inner < p.inner_count; ++inner) {
        std::memcpy(token_address(p, c.destination, inner, 0), token_address(p, c.source, inner, 0),
                    bytes);
      }
    }
  }

  void move(const logits_move& m, const logits_rows_view& batch) const {
    std::byte* row = static_cast<std::byte*>(batch.data) + m.row * batch.row_stride_bytes;
    const auto n = static_cast<std::size_t>(layout.vocabulary);
    if (m.direction == logits_direction::store) {
      detail::convert_logits(row, batch.type, slot(m.slot), layout.logits, n);
    } else {
      detail::convert_logits(slot(m.slot), layout.logits, row, batch.type, n);
    }
  }
};

namespace {

error failed(const char* list, std::size_t index, std::size_t count, const std::string& what) {
  return {errc::device, std::string(list) + " " + std::to_string(index) + " of " +
                            std::to_string(count) + " (" + what + ") failed; nothing after it ran"};
}

std::vector<plane> planes_at(const memory_layout& layout, std::span<std::byte* const> bases) {
  std::vector<plane> planes;
  for (std::size_t i = 0; i < layout.planes.size(); ++i) {
    const plane_layout& p = layout.planes[i];
    planes.push_back({.base = bases[bases.size() == 1 ? 0 : i] + p.offset,
                      .block_stride = p.block_stride,
                      .inner_stride = p.inner_stride,
                      .inner_count = p.inner_count,
                      .bytes_per_token = p.bytes_per_token});
  }
  return planes;
}

result<host_memory> make_logits(const memory_layout& layout) {
  const unsigned __int128 bytes = static_cast<unsigned __int128>(logits_stride(layout)) *
                                  static_cast<std::uint32_t>(layout.logits_rows);
  if (bytes >> 63 != 0) {
    return {errc::out_of_memory, "logits store: " + std::to_string(layout.logits_rows) +
                                     " rows of " + std::to_string(logits_stride(layout)) +
                                     " bytes are more than 2^63"};
  }
  return host_memory::create(static_cast<std::uint64_t>(bytes));
}

}  // namespace

result<host_executor> host_executor::create(memory_layout layout) try {
  if (status s = layout.validate(); !s) return s.error();
  if (status s = layout.validate_disjoint(); !s) return s.error();
  result<host_memory> kv = host_memory::create(layout.bytes());
  if (!kv) return kv.error();
  result<host_memory> logits = make_logits(layout);
  if (!logits) return logits.error();
  auto s = std::make_unique<state>();
  s->kv = std::move(kv).value();
  s->logits = std::move(logits).value();
  s->logits_stride = logits_stride(layout);
  std::byte* const base = s->kv.data();
  s->planes = planes_at(layout, {&base, 1});
  s->layout = std::move(layout);
  return host_executor(std::move(s));
} catch (const std::bad_alloc&) {
  return detail::no_memory("for the tables of a host executor");
}

result<host_executor> host_executor::borrow(memory_layout layout,
                                            std::span<void* const> bases) try {
  if (status s = layout.validate(); !s) return s.error();
  if (bases.size() != 1 && bases.size() != layout.planes.size()) {
    return {errc::invalid_argument, "host executor: " + std::to_string(bases.size()) +
                                        " base pointers for " +
                                        std::to_string(layout.planes.size()) + " planes"};
  }
  std::vector<std::byte*> pointers;
  std::vector<std::uint64_t> addresses;
  for (std::size_t i = 0; i < bases.size(); ++i) {
    if (bases[i] == nullptr) {
      return {errc::invalid_argument,
              "host executor: base pointer " + std::to_string(i) + " is null"};
    }
    pointers.push_back(static_cast<std::byte*>(bases[i]));
    addresses.push_back(reinterpret_cast<std::uintptr_t>(bases[i]));
  }
  addresses.resize(layout.planes.size(), addresses[0]);
  if (status s = layout.validate_disjoint(addresses); !s) return s.error();
  result<host_memory> logits = make_logits(layout);
  if (!logits) return logits.error();
  auto s = std::make_unique<state>();
  s->logits = std::move(logits).value();
  s->logits_stride = logits_stride(layout);
  s->planes = planes_at(layout, pointers);
  s->layout = std::move(layout);
  return host_executor(std::move(s));
} catch (const std::bad_alloc&) {
  return detail::no_memory("for the tables of a host executor");
}

host_executor::host_executor(std::unique_ptr<state> s) noexcept : state_(std::move(s)) {}
host_executor::host_executor(host_executor&&) noexcept = default;
host_executor& host_executor::operator=(host_executor&&) noexcept = default;
host_executor::~host_executor() = default;

const memory_layout& host_executor::layout() const noexcept { return state_->layout; }
std::int64_t host_executor::operations_run() const noexcept { return state_->operations_run; }
void host_executor::fail_operation(std::int64_t nth) noexcept { state_->failing = nth; }

status host_executor::run(const step_plan& plan, const logits_rows_view& batch) try {
  state& s = *state_;
  s.operations_run = 0;
  if (status v = plan.validate(s.layout); !v) return v;
  if (status v = check_batch(plan, s.layout, batch); !v) return v;

  for (std::size_t i = 0; i < plan.copies.size(); ++i) {
    const block_copy& c = plan.copies[i];
    if (s.fails()) {
      return failed("copy", i, plan.copies.size(),
                    std::to_string(c.tokens) + " tokens of block " + std::to_string(c.source) +
                        " to block " + std::to_string(c.destination));
    }
    s.copy(c);
    ++s.operations_run;
  }
  for (std::size_t i = 0; i < plan.logits.size(); ++i) {
    const logits_move& m = plan.logits[i];
    if (s.fails()) {
      const bool store = m.direction == logits_direction::store;
      return failed("logits move", i, plan.logits.size(),
                    std::string(store ? "store" : "load") + ", slot " + std::to_string(m.slot) +
                        ", row " + std::to_string(m.row));
    }
    s.move(m, batch);
    ++s.operations_run;
  }
  return {};
} catch (const std::bad_alloc&) {  // only the message of a failure allocates
  return detail::no_memory("to say which operation failed");
}

std::span<std::byte> host_executor::token_bytes(std::size_t plane_index, block_id block,
                                                std::uint32_t inner,
                                                std::uint32_t token) const noexcept {
  assert(plane_index < state_->planes.size());
  const plane& p = state_->planes[plane_index];
  assert(block >= 0 && block < state_->layout.blocks && inner < p.inner_count &&
         token < state_->layout.block_tokens);
  return {token_address(p, block, inner, token), p.bytes_per_token};
}

std::span<std::byte> host_executor::logits_row(logits_slot slot) const noexcept {
  assert(slot >= 0 && slot < state_->layout.logits_rows);
  return {state_->slot(slot), static_cast<std::size_t>(state_->layout.logits_row_bytes())};
}

}  // namespace radixkv
