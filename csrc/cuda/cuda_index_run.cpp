// What a cuda_index enqueues: updates of the back table, matches on the front one.
#include <array>
#include <new>
#include <string>
#include <utility>

#include "csrc/core/no_memory.h"
#include "csrc/cuda/cuda_index_state.h"
#include "kernels/batch_dedup.h"
#include "kernels/index_update.h"
#include "kernels/prefix_match.h"

namespace radixkv::detail {

namespace {

// A batch as the kernels of matching and of find_shared both name it.
template <class Arguments>
void name_batch(Arguments& a, const cuda_match_batch& batch) {
  a.tokens = batch.tokens;
  a.token_offsets = batch.offsets;
  a.namespace_ids = batch.namespace_ids;
  a.prompt_count = batch.prompts;
  a.token_count = batch.token_count;
  a.matched_blocks = batch.matched_blocks;
  a.block_table = batch.block_table;
}

}  // namespace

status cuda_index_state::update(cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  const device_scope scope(device_);
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  const relaxed_capture_scope relaxed;
  if (status s = order_.usable(); !s) return s;
  if (status s = refuse_capture(stream, "updates are not captured"); !s) return s;
  if (status s = check_stream(stream, device_); !s) return s;
  if (!updating_) {
    mirror_.take_delta(current_);
    if (current_.empty()) return {};
    updating_ = true;
    on_current_ = false;
    cursor_ = {};
  }
  table& back = tables_[1 - front_];
  for (const cudaEvent_t before : {back.written ? back.ready.get() : nullptr, back.last_match}) {
    if (before == nullptr) continue;
    if (const cudaError_t e = cudaStreamWaitEvent(stream, before, 0); e != cudaSuccess) {
      return device_error("waiting for the readers of the index", e);
    }
  }
  status applied;
  try {
    if (!on_current_) {
      applied = apply(stream, back, previous_);
      if (applied) {
        on_current_ = true;
        cursor_ = {};
      }
    }
    if (applied) applied = apply(stream, back, current_);
  } catch (const std::bad_alloc&) {  // for the text of an error: what is enqueued still counts
    applied = no_memory("for an update of the index: it is still pending");
  }
  if (status s = order_.record(stream, back.ready.get(), "the end of an update"); !s) return s;
  back.written = true;
  if (!applied) return applied;
  std::swap(previous_, current_);
  updating_ = false;
  front_ = 1 - front_;
  ++published_;
  return {};
}

status cuda_index_state::apply(cudaStream_t stream, table& t, const index_delta& delta) {
  while (!cursor_.done(delta)) {
    if (status s = ring_.available(1); !s) {
      if (s.error().code != errc::busy) return s;
      return {errc::busy, "the index's staging of " + std::to_string(options_.staging_bytes) +
                              " bytes is in flight: update again to go on"};
    }
    const staging_ring::slot slot = ring_.take();
    delta_cursor next = cursor_;
    // The kernel reads the slot itself, over the bus: a copy to device memory first would write
    // there what the kernel then reads once.
    const cudaError_t failed =
        kernels::index_update(stream, fill_chunk(delta, t.view, next, {slot.host, slot_bytes_}));
    if (status s = order_.record(stream, ring_.last_event(), "a part of an update"); !s) return s;
    if (failed != cudaSuccess) return device_error("updating the index", failed);
    cursor_ = next;
  }
  return {};
}

status cuda_index_state::check_batch(const char* call, const cuda_match_batch& b) const {
  const auto refuse = [call](const std::string& text) -> status {
    return {errc::invalid_argument, std::string(call) + ": " + text};
  };
  if (b.prompts > options_.max_prompts) {
    return refuse("prompts " + std::to_string(b.prompts) + ", the limit is " +
                  std::to_string(options_.max_prompts));
  }
  if (b.token_count < 0 || b.token_count > options_.max_prompt_tokens) {
    return refuse("token_count " + std::to_string(b.token_count) + " is not in [0, " +
                  std::to_string(options_.max_prompt_tokens) + "]");
  }
  if (b.prompts == 0) return {};
  if (b.offsets == nullptr) return refuse("null offsets");
  if (b.matched_blocks == nullptr) return refuse("null matched_blocks");
  if (b.token_count > 0 && b.tokens == nullptr) return refuse("null tokens");
  if (b.token_count >= options_.block_tokens && b.block_table == nullptr) {
    return refuse("null block_table");
  }
  return {};
}

namespace {

error of_enqueued_match(error e) noexcept {
  try {
    e.message += "; the match was enqueued";
  } catch (const std::bad_alloc&) {  // says less, but what it says is right
  }
  return e;
}

}  // namespace

result<std::uint64_t> cuda_index_state::match(cudaStream_t stream, const cuda_match_batch& batch) {
  if (status s = check_batch("match", batch); !s) return std::move(s).error();
  const std::lock_guard lock(mutex_);
  const device_scope scope(device_);
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  const relaxed_capture_scope relaxed;
  if (status s = order_.usable(); !s) return std::move(s).error();
  if (status s = refuse_capture(stream, "matches are not captured"); !s)
    return std::move(s).error();
  if (status s = check_stream(stream, device_); !s) return std::move(s).error();
  lease* free = idle_lease();
  if (free == nullptr) {
    if (status s = collect(); !s) return std::move(s).error();
    free = idle_lease();
  }
  if (free == nullptr) {
    return error{errc::busy, std::to_string(leases_.size()) +
                                 " matches are not finished, the limit is " +
                                 std::to_string(leases_.size())};
  }
  if (status s = launch_match(stream, batch); !s) return std::move(s).error();
  // The lease's event leaves its old match behind.
  for (table& t : tables_) {
    if (t.last_match == free->matched.get()) t.last_match = nullptr;
  }
  if (status s = order_.leave(stream, free->matched.get(), "a match"); !s) {
    return of_enqueued_match(std::move(s).error());
  }
  tables_[front_].last_match = free->matched.get();
  free->state = lease_state::open;
  free->epoch = published_;
  free->ticket = ++tickets_;
  return free->ticket;
}

status cuda_index_state::launch_match(cudaStream_t stream, const cuda_match_batch& batch) {
  table& front = tables_[front_];
  if (status s = order_.enter(stream); !s) return s;
  if (front.written) {
    if (const cudaError_t e = cudaStreamWaitEvent(stream, front.ready.get(), 0); e != cudaSuccess) {
      return device_error("waiting for the index", e);
    }
  }
  kernels::prefix_match_arguments a;
  a.table = front.view;
  a.hash = mirror_.hash_key();
  name_batch(a, batch);
  a.workspace = workspace_.get();
  a.workspace_bytes = workspace_bytes_;
  a.multiprocessors = multiprocessors_;
  const cudaError_t e = kernels::prefix_match(stream, a);
  if (e == cudaErrorInvalidValue || e == cudaErrorMisalignedAddress) {
    return {errc::invalid_argument, std::string("match: ") + cudaGetErrorString(e)};
  }
  if (e != cudaSuccess) return device_error("launching a match", e);
  return {};
}

status cuda_index_state::find_shared(cudaStream_t stream, const cuda_match_batch& batch,
                                     const cuda_shared_prefixes& results) {
  if (!options_.find_shared) {
    return {errc::invalid_argument,
            "find_shared: the index was created without options.find_shared"};
  }
  if (status s = check_batch("find_shared", batch); !s) return s;
  if (batch.prompts == 0) return {};
  if (results.representatives == nullptr || results.shared_blocks == nullptr) {
    return {errc::invalid_argument, results.representatives == nullptr
                                        ? "find_shared: null representatives"
                                        : "find_shared: null shared_blocks"};
  }
  const std::lock_guard lock(mutex_);
  const device_scope scope(device_);
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  const relaxed_capture_scope relaxed;
  if (status s = order_.usable(); !s) return s;
  if (status s = refuse_capture(stream, "searches for shared prefixes are not captured"); !s) {
    return s;
  }
  if (status s = check_stream(stream, device_); !s) return s;
  if (const cudaError_t e = cudaStreamWaitEvent(stream, shared_.get(), 0); e != cudaSuccess) {
    return device_error("waiting for the search before", e);
  }
  kernels::batch_dedup_arguments a;
  a.hash = mirror_.hash_key();
  a.block_tokens = options_.block_tokens;
  name_batch(a, batch);
  a.representatives = results.representatives;
  a.shared_blocks = results.shared_blocks;
  a.workspace = shared_workspace_.get();
  a.workspace_bytes = shared_workspace_bytes_;
  const cudaError_t failed = kernels::batch_dedup(stream, a);
  // Whatever it says: some of its launches may have been enqueued before one failed.
  if (status s = order_.record(stream, shared_.get(), "a search for shared prefixes"); !s) return s;
  if (failed == cudaErrorInvalidValue || failed == cudaErrorMisalignedAddress) {
    return {errc::invalid_argument, std::string("find_shared: ") + cudaGetErrorString(failed)};
  }
  if (failed != cudaSuccess) return device_error("launching a search for shared prefixes", failed);
  return {};
}

status cuda_index_state::finish(cudaStream_t stream, std::uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  const device_scope scope(device_);
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  if (status s = refuse_capture(stream, "matches are finished behind the graph's launch"); !s) {
    return s;
  }
  if (status s = check_stream(stream, device_); !s) return s;
  for (lease& l : leases_) {
    if (l.state != lease_state::open || l.ticket != ticket) continue;
    // The stream of the results' use may be another one than the match's.
    cudaError_t e = cudaStreamWaitEvent(stream, l.matched.get(), 0);
    if (e == cudaSuccess) e = cudaEventRecord(l.finished.get(), stream);
    if (e != cudaSuccess) return device_error("finishing a match", e);
    l.state = lease_state::finished;
    return {};
  }
  return {errc::not_found, "no unfinished match has ticket " + std::to_string(ticket)};
}

status cuda_index_state::synchronize() noexcept {
  const device_scope scope(device_);
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  std::array<cudaEvent_t, 4> last = {};
  {
    const std::lock_guard lock(mutex_);
    result<bool> recovered = order_.recover();
    if (!recovered) return std::move(recovered).error();
    if (*recovered) {
      ring_.reset();
      for (table& t : tables_) {
        t.last_match = nullptr;
        t.written = false;
      }
    }
    last = {tables_[0].written ? tables_[0].ready.get() : nullptr,
            tables_[1].written ? tables_[1].ready.get() : nullptr, order_.last(), shared_.get()};
  }
  // Not under the lock: a cache that publishes, under its own, would wait for the device.
  for (const cudaEvent_t event : last) {
    if (status s = order_.wait_for(event); !s) return s;
  }
  for (const lease& l : leases_) {
    if (status s = order_.wait_for(finished_event(l)); !s) return s;
  }
  return {};
}

cudaEvent_t cuda_index_state::finished_event(const lease& l) const noexcept {
  const std::lock_guard lock(mutex_);
  return l.state == lease_state::finished ? l.finished.get() : nullptr;
}

}  // namespace radixkv::detail
