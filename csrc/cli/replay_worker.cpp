#include "csrc/cli/replay_worker.h"

#include <new>
#include <thread>
#include <utility>

#include "csrc/core/stage_timer.h"

namespace radixkv::cli {
namespace {

// Counts a request as open while it is being served.
class open_mark {
 public:
  explicit open_mark(replay_shared& shared) noexcept : shared_(shared) { ++shared_.open; }
  open_mark(const open_mark&) = delete;
  open_mark& operator=(const open_mark&) = delete;
  ~open_mark() {
    --shared_.open;
    ++shared_.released;
  }

 private:
  replay_shared& shared_;
};

}  // namespace

void replay_shared::fail(status s) noexcept {
  const std::lock_guard lock(failure_lock);
  if (failure.ok()) failure = std::move(s);
  stop = true;
}

void replay_worker::run(replay_shared& shared, progress_bar* bar) noexcept try {
  while (!shared.stop.load(std::memory_order_relaxed)) {
    const std::size_t index = shared.next.fetch_add(1, std::memory_order_relaxed);
    if (index >= shared.matched.size()) return;
    if (status s = serve(shared, index); !s) {
      shared.fail({s.error().code,
                   "request " + std::to_string(shared.first + index) + ": " + s.error().message});
    }
    if (bar != nullptr) {
      bar->update(shared.first + index + 1, [&] {
        const double share =
            blocks == 0 ? 0.0
                        : 100.0 * static_cast<double>(hit_blocks) / static_cast<double>(blocks);
        return std::to_string(share).substr(0, 5) + " % of blocks hit";
      });
    }
  }
} catch (const std::bad_alloc&) {
  shared.fail({errc::out_of_memory, "no memory"});  // fits into a string as it is
}

status replay_worker::serve(replay_shared& shared, std::size_t index) {
  const trace_request& request = shared.source.requests[shared.first + index];
  const std::span<const token_id> prompt = shared.prompts.prompt(shared.first + index);
  const std::string_view name_space = shared.source.name_spaces[request.name_space];
  const auto tokens = static_cast<std::int64_t>(prompt.size());
  shared.clock.advance(request.seconds);
  announcement announced;
  if (shared.lookahead != nullptr) {
    const std::uint64_t announcing = detail::ticks_now();
    auto taken = shared.lookahead->take(shared.first + index, shared.first + shared.matched.size());
    if (!taken) return taken.error();
    announced = std::move(*taken);
    announce.record(static_cast<double>(detail::ticks_now() - announcing));
  }
  detail::stage_times spent;
  const detail::stage_recording recording(spent);

  std::uint64_t ticks = 0;
  for (;;) {
    const std::uint64_t released = shared.released.load();
    bool alone = false;
    {
      const open_mark mark(shared);
      plan_.clear();
      std::unique_lock order(shared.engine_order, std::defer_lock);
      if (shared.engine != nullptr) order.lock();
      const std::uint64_t opening = detail::ticks_now();
      result<sequence> opened = shared.cache.open(prompt, name_space, plan_, announced);
      ticks = detail::ticks_now() - opening;
      if (opened) {
        if (shared.engine != nullptr) {
          if (status s = shared.engine->step(name_space, prompt, opened->cached_tokens(),
                                             opened->block_table(), plan_);
              !s) {
            shared.cache.report_failure(plan_);
            return s;
          }
          order.unlock();
        }
        const std::int64_t matched = opened->matched_tokens();
        const std::int64_t cached = opened->cached_tokens();
        const std::uint64_t committing = detail::ticks_now();
        if (status s = opened->mark_filled(tokens); !s) return s;
        if (result<commit_result> r = opened->commit(tokens); !r) return r.error();
        opened->note_output(request.output_tokens);
        opened->release();
        ticks += detail::ticks_now() - committing;
        shared.matched[index] = static_cast<std::uint32_t>(matched);
        count(shared, tokens, matched, cached);
        break;
      }
      if (opened.error().code == errc::invalid_argument &&
          tokens > shared.cache.options().blocks * std::int64_t{shared.block_tokens}) {
        alone = true;
      } else if (opened.error().code != errc::out_of_blocks) {
        return opened.error();
      }
    }
    // `released` grew by this attempt; if by no other, and nothing is open, waiting brings nothing.
    if (alone || (shared.open.load() == 0 && shared.released.load() == released + 1)) {
      ++refused;
      count(shared, tokens, 0, 0);
      return {};
    }
    std::this_thread::yield();
  }
  match.record(static_cast<double>(spent.match));
  allocate.record(static_cast<double>(spent.allocate));
  commit.record(static_cast<double>(spent.commit));
  evict.record(static_cast<double>(spent.evict));
  total.record(static_cast<double>(ticks));
  return {};
}

void replay_worker::count(const replay_shared& shared, std::int64_t tokens, std::int64_t matched,
                          std::int64_t cached) {
  const std::int64_t size = shared.block_tokens;
  ++requests;
  prompt_tokens += static_cast<std::uint64_t>(tokens);
  hit_tokens += static_cast<std::uint64_t>(cached);
  blocks += static_cast<std::uint64_t>((tokens + size - 1) / size);
  // A last, partial block is hit when all of its tokens are.
  hit_blocks +=
      static_cast<std::uint64_t>(matched == tokens ? (tokens + size - 1) / size : matched / size);
}

void replay_worker::merge(const replay_worker& other) {
  requests += other.requests;
  refused += other.refused;
  prompt_tokens += other.prompt_tokens;
  hit_tokens += other.hit_tokens;
  blocks += other.blocks;
  hit_blocks += other.hit_blocks;
  match.merge(other.match);
  allocate.merge(other.allocate);
  commit.merge(other.commit);
  evict.merge(other.evict);
  total.merge(other.total);
  announce.merge(other.announce);
}

}  // namespace radixkv::cli
