// The handle of a sequence: forwards to the core, refuses when released.
#include "radixkv/sequence.h"

#include <algorithm>

#include "csrc/core/cache_core.h"
#include "csrc/core/no_memory.h"
#include "csrc/core/token_ops.h"

namespace radixkv {

namespace {

error released_error(const char* what) noexcept {
  try {
    return {errc::released, std::string(what) + " a sequence that was released"};
  } catch (const std::bad_alloc&) {
    return {errc::released, "released"};  // short enough to need no memory
  }
}

}  // namespace

sequence::sequence() noexcept = default;
sequence::sequence(sequence&&) noexcept = default;
sequence::sequence(std::unique_ptr<detail::sequence_state> state) noexcept
    : state_(std::move(state)) {}
sequence& sequence::operator=(sequence&& other) noexcept {
  if (this != &other) {
    release();
    state_ = std::move(other.state_);
  }
  return *this;
}
sequence::~sequence() { release(); }

void sequence::release() noexcept {
  if (!state_) return;
  // The state may hold the last reference to the core, which must outlive the call.
  const std::shared_ptr<detail::cache_core> core = state_->core;
  core->release(*state_);
  state_.reset();
}

bool sequence::released() const noexcept { return !state_; }
std::uint64_t sequence::id() const noexcept { return state_ ? state_->id : 0; }
std::int64_t sequence::tokens() const noexcept { return state_ ? state_->tokens : 0; }
std::int64_t sequence::cached_tokens() const noexcept { return state_ ? state_->cached : 0; }
std::int64_t sequence::matched_tokens() const noexcept { return state_ ? state_->matched : 0; }
std::int64_t sequence::filled_tokens() const noexcept { return state_ ? state_->filled : 0; }
std::int64_t sequence::committed_tokens() const noexcept { return state_ ? state_->committed : 0; }
std::int64_t sequence::capacity_tokens() const noexcept {
  return state_ ? static_cast<std::int64_t>(state_->table.size()) * state_->core->block_tokens()
                : 0;
}
std::span<const block_id> sequence::block_table() const noexcept {
  return state_ ? std::span<const block_id>(state_->table) : std::span<const block_id>{};
}
logits_slot sequence::cached_logits() const noexcept { return state_ ? state_->slot : no_slot; }

status sequence::read_tokens(std::int64_t first, std::span<token_id> out) const try {
  if (!state_) return released_error("reading tokens of");
  const std::int64_t held = state_->tokens;
  if (first < 0 || first > held || out.size() > static_cast<std::uint64_t>(held - first)) {
    return {errc::invalid_argument, "reading " + std::to_string(out.size()) + " tokens from " +
                                        std::to_string(first) + " on, of a sequence of " +
                                        std::to_string(held)};
  }
  const auto b = static_cast<std::size_t>(state_->core->block_tokens());
  auto at = static_cast<std::size_t>(first);
  while (!out.empty()) {
    const std::size_t n = std::min(b - at % b, out.size());
    detail::copy_words(out.data(), state_->core->tree().row(state_->table[at / b]) + at % b, n);
    out = out.subspan(n);
    at += n;
  }
  return {};
} catch (const std::bad_alloc&) {
  return detail::no_memory("to say what is wrong");
}

status sequence::append(std::span<const token_id> tokens, step_plan& plan) {
  if (!state_) return released_error("appending to");
  return state_->core->append(*state_, tokens, plan);
}
status sequence::reserve(std::int64_t n, step_plan& plan) {
  if (!state_) return released_error("reserving room in");
  return state_->core->reserve(*state_, n, plan);
}
status sequence::accept(std::span<const token_id> tokens) {
  if (!state_) return released_error("accepting tokens into");
  return state_->core->accept(*state_, tokens);
}
status sequence::mark_filled(std::int64_t tokens) {
  if (!state_) return released_error("marking as filled");
  return state_->core->mark_filled(*state_, tokens);
}
result<sequence> sequence::fork() {
  if (!state_) return released_error("forking");
  result<detail::state_ptr> child = state_->core->fork(*state_);
  if (!child) return std::move(child).error();
  return sequence(std::move(*child));
}
status sequence::truncate(std::int64_t n) {
  if (!state_) return released_error("truncating");
  return state_->core->truncate(*state_, n);
}
result<commit_result> sequence::commit() {
  if (!state_) return released_error("committing");
  return state_->core->commit(*state_, state_->filled);
}
result<commit_result> sequence::commit(std::int64_t n) {
  if (!state_) return released_error("committing");
  return state_->core->commit(*state_, n);
}
result<commit_result> sequence::commit_logits(std::int64_t n, std::int32_t row, step_plan& after) {
  if (!state_) return released_error("committing logits of");
  return state_->core->commit_logits(*state_, n, row, after);
}
status sequence::load_logits(std::int32_t row, step_plan& plan) try {
  if (!state_) return released_error("loading logits of");
  if (state_->slot == no_slot) {
    return {errc::not_found, "no logits are cached for the " + std::to_string(state_->tokens) +
                                 " tokens of the sequence"};
  }
  if (row < 0) {
    return {errc::invalid_argument, "row " + std::to_string(row) + " of the logits is below 0"};
  }
  plan.logits.push_back({logits_direction::load, state_->slot, row});
  return {};
} catch (const std::bad_alloc&) {
  return detail::no_memory("for another operation of the plan");
}
status sequence::set_priority(std::int64_t first, std::int64_t n, int priority) {
  if (!state_) return released_error("giving a priority to");
  return state_->core->set_priority(*state_, first, n, priority);
}
status sequence::set_ttl(double seconds) {
  if (!state_) return released_error("giving a time to live to");
  return state_->core->set_ttl(*state_, seconds);
}
status sequence::expect_return(double probability, double within_seconds) {
  if (!state_) return released_error("expecting the return of");
  return state_->core->expect_return(*state_, probability, within_seconds);
}
status sequence::ended() {
  if (!state_) return released_error("ending");
  return state_->core->ended(*state_);
}
void sequence::note_output(std::int64_t tokens) noexcept {
  if (state_) state_->output_tokens = std::clamp<std::int64_t>(tokens, 0, max_sequence_tokens);
}

}  // namespace radixkv
