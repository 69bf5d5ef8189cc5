// Runs step plans on a CUDA device: copies of KV blocks and moves of logits rows, on the caller's
// streams.
//
// 1. Nothing but create, borrow, make_graph_plan, synchronize and destruction allocates, frees or
//    waits. run, launch, and graph_plan's capture, prepare, skip and launch only enqueue. (Host
//    memory for looking at a plan grows with the largest one.)
// 2. What the executor enqueues takes effect in the order of its calls, whatever streams they name:
//    it makes each stream wait for its previous call. A captured graph is part of that order when
//    it is started with launch().
// 3. The caller orders its own kernels: those that fill a block that a plan reads, and those that
//    use what a plan writes, run on the same stream or are tied to it by events.
// 4. An error found before anything was enqueued leaves device memory as it was. One in the middle
//    (errc::device) names the operation that was refused; what the message says was enqueued still
//    runs, the rest never does: hand the plan to kv_cache::report_failure, so that nothing is
//    matchable that was not copied. Faults of kernels surface as CUDA's sticky errors: at the next
//    call of the executor or of the engine, and then at every one.
// 5. Nothing throws. Refused host memory is errc::out_of_memory, with nothing enqueued or captured;
//    where it is refused to the text of an error, the text is short ("CUDA error").
//
// Thread-safety: every member may be called from any thread; calls are serialised by a short lock.
// Calls use the executor's device and leave the thread's current device as it was.
// No CUDA call is made before main or after it, unless an executor lives in a static.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <cuda_runtime_api.h>

#include "radixkv/export.h"
#include "radixkv/layout.h"
#include "radixkv/result.h"
#include "radixkv/step_plan.h"
#include "radixkv/types.h"

namespace radixkv {

namespace detail {
class cuda_state;
class graph_plan_state;
}  // namespace detail

struct cuda_executor_options {
  // Pinned staging, and as much device memory: `staging_slots` slots, each for this many copies and
  // this many logits moves (16 bytes for one of each). A plan takes one slot, or several if it is
  // larger, until the device has run it. 1 … 4096 and 1 … 1 Mi.
  std::uint32_t staging_slots = 64;
  std::uint32_t slot_operations = 1024;

  [[nodiscard]] status validate() const;
};

struct graph_plan_options {
  // Room for one plan: copies, and rows of the batch that logits may move to or from.
  std::uint32_t copies = 256;
  std::uint32_t logits_rows = 256;
  // Launches that the graph holds for runs of independent operations (copy_waves). A plan of a
  // scheduler rarely needs more than one; a chain a→b, b→c in one plan needs two.
  std::uint32_t copy_waves = 2;
  std::uint32_t logits_waves = 2;
  // Slots for prepared plans. Replay n has slot n modulo depth, so that plans may be prepared for
  // the next `depth` replays.
  std::uint32_t depth = 4;

  [[nodiscard]] status validate() const;
};

// A place in a CUDA graph where plans run: captured once, replayed with another plan each time.
//
// Replays of the graph are numbered in the order in which they run. Each launch of the graph needs
// one call before it that gives its replay a number: launch() does that itself; an engine that
// launches the graph in another way calls prepare() or skip() before each launch. A plan is run by
// the replay that it was prepared for or by none: a replay without a plan copies nothing.
// Thread-safety: one thread at a time. The graph must not be launched after this object is gone.
class RADIXKV_EXPORT graph_plan {
 public:
  graph_plan(graph_plan&&) noexcept;
  graph_plan& operator=(graph_plan&&) noexcept;
  ~graph_plan();  // waits for what the executor's launch() has started

  // Adds the operations to the graph that is being captured on `stream`. Once; `rows` stays fixed
  // for all replays and bounds the rows that plans may name (without it: no logits).
  // Errors: invalid_argument (not capturing, captured already, a view that does not fit), device
  // (another device's stream, too: a captured stream does not say whose it is).
  status capture(cudaStream_t stream, const logits_rows_view& rows = {});

  // Runs the plan, then what else is in the graph: launches the instantiated graph with the plan as
  // its replay's, or, if the plan has no place in it (too long, or its slot is taken), enqueues the
  // plan before it as cuda_executor::run does. Ordered like run(). REQUIRES: each call of prepare
  // and skip before has had its launch.
  // Errors: those of run and of cuda_executor::launch. The graph was not launched, unless the error
  // is errc::device and its message ends in "launched"; then a plan that was its replay's
  // runs, too. Else the plan does not run, unless it was enqueued before the graph: then the error
  // is errc::device and the message says so.
  status launch(cudaStream_t stream, cudaGraphExec_t graph, const step_plan& plan = {});

  // Hands `plan` to the replay that has no number yet. Does not wait and enqueues nothing.
  // Whatever it returns, the launch that it was called for comes next: after an error that replay
  // copies nothing, and the plan may be given to cuda_executor::run before it.
  // Errors: invalid_argument (the plan does not fit the layout, or this object's options), busy
  // (its slot holds the plan of an earlier replay that has not run), out_of_memory. Two numbered no
  // replay, both invalid_argument: not captured yet; and replays have run that were not numbered,
  // which it says until realign().
  status prepare(const step_plan& plan);

  // The replay that has no number yet copies nothing.
  void skip() noexcept;

  // Forgets the plans that have not run and takes up the numbers where the device is: after
  // launches without a number, or numbers whose launch failed and will not be repeated. REQUIRES:
  // every launch of the graph has run.
  void realign() noexcept;

  // Replays that have a number, and replays that the device has begun so far: they have taken their
  // plans, whose copies may still run.
  [[nodiscard]] std::uint64_t numbered() const noexcept;
  [[nodiscard]] std::uint64_t replayed() const noexcept;

 private:
  friend class cuda_executor;
  explicit graph_plan(std::unique_ptr<detail::graph_plan_state> state) noexcept;
  std::unique_ptr<detail::graph_plan_state> state_;
};

class RADIXKV_EXPORT cuda_executor {
 public:
  // Allocates the layout's planes and logits store on the current device, zeroed. Synchronises.
  // Errors: invalid_argument (layout or options), out_of_memory (names the bytes), device (no
  // device, or the runtime's error).
  [[nodiscard]] static result<cuda_executor> create(const memory_layout& layout,
                                                    const cuda_executor_options& options = {});

  // Uses the engine's memory for the planes: `bases` holds one address for all planes, or one per
  // plane, to which the plane's offset is added. The logits store is the executor's own. The memory
  // must outlive the executor and everything it has enqueued.
  // Errors: as create; also null bases, memory that is not the current device's, planes that
  // overlap.
  [[nodiscard]] static result<cuda_executor> borrow(const memory_layout& layout,
                                                    std::span<void* const> bases,
                                                    const cuda_executor_options& options = {});

  cuda_executor(cuda_executor&&) noexcept;
  cuda_executor& operator=(cuda_executor&&) noexcept;
  ~cuda_executor();  // waits for what it has enqueued, then frees what it owns

  // Enqueues the plan on `stream`: an upload and a launch per wave of independent copies, then the
  // logits moves between the store and `rows`, in list order.
  // Errors, with nothing enqueued: invalid_argument (plan, layout or rows do not fit; rows that
  // reach between the first and the last byte of a plane or of the logits store; foreign memory;
  // another device's stream, or one that is being captured: see graph_plan), busy (the plans in
  // flight hold so many staging slots that this one does not fit: let the device catch up, or
  // create the executor with more). device: see invariant 4.
  status run(cudaStream_t stream, const step_plan& plan, const logits_rows_view& rows = {});

  // Launches an instantiated graph that contains a graph_plan of this executor, ordered like run().
  // graph_plan::launch also numbers the replay.
  // Errors: invalid_argument (null graph, another device's stream, or one that is being captured),
  // device (the message says so if the graph was launched nevertheless).
  status launch(cudaStream_t stream, cudaGraphExec_t graph);

  // Allocates a place for plans in a CUDA graph. Synchronises; not while any stream is capturing.
  [[nodiscard]] result<graph_plan> make_graph_plan(const graph_plan_options& options = {});

  // Waits until everything that was enqueued has run, and returns the device's error if there is
  // one.
  status synchronize();

  [[nodiscard]] const memory_layout& layout() const noexcept;
  [[nodiscard]] int device() const noexcept;
  // Device address of block 0 of a plane. REQUIRES: plane < layout().planes.size().
  [[nodiscard]] std::byte* plane(std::size_t plane) const noexcept;
  // Device address of a row of the logits store, to sample from in place. Rows are 256-byte
  // aligned. REQUIRES: 0 ≤ slot < layout().logits_rows.
  [[nodiscard]] std::byte* logits_row(logits_slot slot) const noexcept;
  // The whole logits store, for engines that index it themselves.
  [[nodiscard]] logits_rows_view logits_store() const noexcept;

 private:
  explicit cuda_executor(std::shared_ptr<detail::cuda_state> state) noexcept;
  std::shared_ptr<detail::cuda_state> state_;
};

}  // namespace radixkv
