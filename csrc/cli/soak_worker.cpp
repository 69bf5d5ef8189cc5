#include "csrc/cli/soak_worker.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace radixkv::cli {
namespace {

constexpr std::size_t most_open = 6;  // requests of one thread
constexpr std::size_t most_tokens = 600;

std::uint64_t fold(std::uint64_t h, token_id t) {
  return (h ^ (t + 1)) * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u;
}

void put_token(std::byte* to, std::uint64_t hash) {
  const std::uint64_t words[2] = {hash, ~hash * 0x2545f4914f6cdd1du};
  static_assert(sizeof(words) == replay_token_bytes);
  std::memcpy(to, words, sizeof(words));
}

}  // namespace

void soak_shared::violated(const std::string& what) {
  std::lock_guard lock(violation_mutex);
  if (violation.empty()) violation = what;
  stop = true;
}

void soak_worker::run() noexcept {
  try {
    while (!shared_.stop) step();
    while (!open_.empty()) close(open_.size() - 1);
  } catch (const std::bad_alloc&) {
    shared_.no_memory = true;
    shared_.stop = true;
  }
  open_.clear();
  announced_.clear();
  pinned_.clear();
}

void soak_worker::step() {
  if (open_.empty() || (open_.size() < most_open && random_.chance(0.25))) {
    if (random_.chance(0.1)) return open_batch();
    return open();
  }
  const auto i = static_cast<std::size_t>(random_.below(open_.size()));
  request& r = open_[i];
  const std::uint64_t what = random_.below(100);
  if (what < 40) return decode(r);
  if (what < 50) return extend(r);
  if (what < 60) return commit(r);
  if (what < 65) return commit_logits(r);
  if (what < 70) return fork(r);
  if (what < 75) return truncate(r);
  if (what < 85) return match();
  if (what < 86) return inspect();
  if (what < 87) return flood();
  if (what < 93) return hint();
  close(i);
}

// Conversations share beginnings with each other and with those of other threads.
std::vector<token_id> soak_worker::prompt() {
  const std::uint64_t system = random_.below(8);
  const std::uint64_t conversation = system + 8 * random_.below(24);
  const std::uint64_t shared_tokens = 16 + 11 * system;
  const std::uint64_t n = random_.chance(0.3) ? shared_tokens : 1 + random_.below(300);
  std::vector<token_id> t(static_cast<std::size_t>(n));
  for (std::uint64_t i = 0; i < n; ++i) {
    const std::uint64_t from = i < shared_tokens ? system : conversation;
    t[static_cast<std::size_t>(i)] = static_cast<token_id>(fold(from * 1'000'003 + i, 7) >> 45);
  }
  return t;
}

void soak_worker::lengthen(request& r, std::span<const token_id> more) {
  std::uint64_t h = r.hashes.empty() ? r.space + 1 : r.hashes.back();
  for (const token_id t : more) {
    r.tokens.push_back(t);
    r.hashes.push_back(h = fold(h, t));
  }
}

void soak_worker::to_ranges(const request& r, std::int64_t first, std::int64_t end) {
  const std::int64_t b = shared_.cache.options().block_tokens;
  const std::span<const block_id> table = r.handle.block_table();
  ranges_.clear();
  for (std::int64_t at = first; at < end;) {
    const std::int64_t n = std::min(b - at % b, end - at);
    ranges_.push_back({table[static_cast<std::size_t>(at / b)], static_cast<std::uint32_t>(at % b),
                       static_cast<std::uint32_t>(n)});
    at += n;
  }
}

void soak_worker::write(const request& r, std::int64_t first, std::int64_t end) {
  if (first >= end) return;
  to_ranges(r, first, end);
  bytes_.resize(static_cast<std::size_t>(end - first) * replay_token_bytes);
  for (std::int64_t i = first; i < end; ++i) {
    put_token(bytes_.data() + static_cast<std::size_t>(i - first) * replay_token_bytes,
              r.hashes[static_cast<std::size_t>(i)]);
  }
  expect(shared_.memory.write(ranges_, bytes_));
}

void soak_worker::verify(const request& r, std::int64_t first, std::int64_t end) {
  if (!shared_.verify || first >= end) return;
  to_ranges(r, first, end);
  bytes_.resize(static_cast<std::size_t>(end - first) * replay_token_bytes);
  expect(shared_.memory.read(ranges_, bytes_));
  std::byte wanted[replay_token_bytes];
  for (std::int64_t i = first; i < end; ++i) {
    put_token(wanted, r.hashes[static_cast<std::size_t>(i)]);
    const std::byte* const got =
        bytes_.data() + static_cast<std::size_t>(i - first) * replay_token_bytes;
    for (std::uint32_t k = 0; k < replay_token_bytes; ++k) wrong_bytes += got[k] != wanted[k];
  }
  checked_bytes += (end - first) * replay_token_bytes;
}

bool soak_worker::run_plan(const step_plan& plan) {
  if (!plan.copies.empty() && random_.chance(0.05)) {
    ++faults;
    call().report_failure(plan);  // as if the device had refused it
    return false;
  }
  expect(shared_.memory.run(plan));
  return true;
}

void soak_worker::adopt(sequence handle, std::vector<token_id> tokens, std::size_t space,
                        bool ran) {
  request r{std::move(handle), {}, {}, space};
  lengthen(r, tokens);
  const std::int64_t cached = r.handle.cached_tokens();
  if (!ran && !r.handle.commit(0)) return;  // its copy failed: given up
  verify(r, 0, cached);
  if (r.handle.cached_logits() != no_slot) {
    const std::uint64_t held = shared_.logits[static_cast<std::size_t>(r.handle.cached_logits())];
    wrong_bytes += held == r.hashes.back() ? 0 : 8;
  }
  write(r, cached, static_cast<std::int64_t>(r.tokens.size()));
  expect(call(r).mark_filled(static_cast<std::int64_t>(r.tokens.size())));
  open_.push_back(std::move(r));
}

void soak_worker::open() {
  waiting w{{}, prompt(), static_cast<std::size_t>(random_.below(std::size(soak_spaces)))};
  const bool announced = !announced_.empty() && random_.chance(0.3);
  if (announced) {
    w = std::move(announced_.back());
    announced_.pop_back();
  }
  step_plan plan;
  std::lock_guard lock(shared_.engine);
  result<sequence> s = call().open(w.tokens, soak_spaces[w.space], plan, w.handle);
  expect(w.handle.withdrawn() == (s.ok() || !announced), "an announcement outlived its request");
  if (!s) {
    ++faults;
    expect(s.error().code == errc::out_of_blocks, "an open was refused for another reason");
    expect(plan.empty(), "a refused open left something in the plan");
    return;
  }
  const bool ran = run_plan(plan);
  adopt(std::move(*s), std::move(w.tokens), w.space, ran);
}

void soak_worker::open_batch() {
  const auto space = static_cast<std::size_t>(random_.below(std::size(soak_spaces)));
  std::vector<std::vector<token_id>> prompts(2 + random_.below(3));
  std::vector<open_request> requests;
  for (auto& p : prompts) {
    p = prompt();
    requests.push_back({p, soak_spaces[space]});
  }
  step_plan plan;
  std::lock_guard lock(shared_.engine);
  open_batch_result opened = call().open_batch(requests, plan);
  const bool ran = run_plan(plan);
  for (std::size_t i = 0; i < opened.sequences.size(); ++i) {
    adopt(std::move(opened.sequences[i]), std::move(prompts[i]), space, ran);
  }
  faults += opened.sequences.size() < prompts.size();
}

// A pass with drafts: some are accepted.
void soak_worker::decode(request& r) {
  if (r.tokens.size() + 4 > most_tokens) return;
  const auto room = static_cast<std::int64_t>(1 + random_.below(4));
  std::vector<token_id> accepted(1 + random_.below(static_cast<std::uint64_t>(room)));
  for (token_id& t : accepted) t = static_cast<token_id>(random_.below(3));
  step_plan plan;
  std::lock_guard lock(shared_.engine);
  if (!call(r).reserve(room, plan)) {
    ++faults;
    return;
  }
  if (!run_plan(plan)) {
    expect(!r.handle.commit(r.handle.committed_tokens()), "a failed sequence could be committed");
    return close(static_cast<std::size_t>(&r - open_.data()));
  }
  const std::int64_t filled = r.handle.filled_tokens();
  lengthen(r, accepted);
  write(r, filled, static_cast<std::int64_t>(r.tokens.size()) - 1);
  expect(call(r).accept(accepted));
}

// The user's next turn.
void soak_worker::extend(request& r) {
  std::vector<token_id> more(1 + random_.below(60));
  if (r.tokens.size() + more.size() > most_tokens) return;
  for (token_id& t : more) t = static_cast<token_id>(random_.below(3));
  step_plan plan;
  std::lock_guard lock(shared_.engine);
  if (!call(r).append(more, plan)) {
    ++faults;
    return;
  }
  lengthen(r, more);
  if (!run_plan(plan)) return close(static_cast<std::size_t>(&r - open_.data()));
  write(r, r.handle.filled_tokens(), r.handle.tokens());
  expect(call(r).mark_filled(r.handle.tokens()));
}

void soak_worker::fork(request& r) {
  if (open_.size() >= most_open) return;
  result<sequence> child = call(r).fork();
  if (!child) return expect(child.error().code == errc::out_of_blocks, "a fork was refused");
  request copy{std::move(*child), r.tokens, r.hashes, r.space};
  open_.push_back(std::move(copy));
}

void soak_worker::truncate(request& r) {
  const std::int64_t least = r.handle.committed_tokens();
  const auto n = least + static_cast<std::int64_t>(random_.below(
                             static_cast<std::uint64_t>(r.handle.tokens() - least) + 1));
  expect(call(r).truncate(n));
  r.tokens.resize(static_cast<std::size_t>(n));
  r.hashes.resize(static_cast<std::size_t>(n));
}

void soak_worker::commit(request& r) {
  const std::int64_t n = r.handle.filled_tokens();
  const result<commit_result> done = call(r).commit(n);
  if (!done) return shared_.violated(done.error().message);
  expect(done->published_tokens == n, "a commit published less than was asked for");
  const prefix_match m =
      call().match(std::span(r.tokens).first(static_cast<std::size_t>(n)), soak_spaces[r.space]);
  expect(m.tokens == n, "what was committed does not match");
}

void soak_worker::commit_logits(request& r) {
  const std::int64_t n = r.handle.filled_tokens();
  if (n == 0) return;
  step_plan after;
  std::lock_guard lock(shared_.engine);
  const result<commit_result> done = call(r).commit_logits(n, 0, after);
  if (!done) return shared_.violated(done.error().message);
  if (!after.logits.empty() && random_.chance(0.05)) {
    ++faults;
    call().report_failure(after);
    return;
  }
  for (const logits_move& m : after.logits) {
    shared_.logits[static_cast<std::size_t>(m.slot)] = r.hashes[static_cast<std::size_t>(n) - 1];
  }
}

void soak_worker::match() {
  std::vector<std::vector<token_id>> prompts(1 + random_.below(4));
  std::vector<open_request> requests;
  for (auto& p : prompts) {
    p = prompt();
    requests.push_back({p, soak_spaces[random_.below(std::size(soak_spaces))]});
  }
  std::vector<prefix_match> out(prompts.size());
  expect(call().match_batch(requests, out).ok(), "a batch was not matched");
  for (std::size_t i = 0; i < out.size(); ++i) {
    expect(out[i].tokens <= static_cast<std::int64_t>(prompts[i].size()), "a match is too long");
  }
}

void soak_worker::inspect() {
  const cache_statistics s = call().statistics();
  expect(s.blocks_used <= s.blocks && s.blocks_cached <= s.blocks_used, "statistics disagree");
  expect(call().sequences().ok() && call().dump(20).ok(), "no listing");
  (void)call().can_allocate(static_cast<std::int64_t>(random_.below(100)));
  call().evict(static_cast<std::int64_t>(random_.below(40)));
  if (random_.chance(0.1)) call().clear();
}

// More requests than the pool holds, all cancelled at the end.
void soak_worker::flood() {
  std::vector<sequence> held;
  std::vector<token_id> t(500);
  for (token_id& x : t) x = static_cast<token_id>(random_.next());
  for (int i = 0; i < 400; ++i) {
    t[0] = static_cast<token_id>(i);
    step_plan plan;
    std::lock_guard lock(shared_.engine);
    result<sequence> s = call().open(t, "flood", plan);
    expect(shared_.memory.run(plan));
    if (!s) {
      expect(s.error().code == errc::out_of_blocks, "a flood was refused for another reason");
      break;
    }
    held.push_back(std::move(*s));
  }
  faults += static_cast<std::int64_t>(held.size()) + 1;
}

void soak_worker::close(std::size_t i) {
  const request& r = open_[i];
  if (r.handle.filled_tokens() > 0 && call(open_[i]).commit(r.handle.committed_tokens()).ok()) {
    std::lock_guard lock(shared_.engine);
    verify(r, 0, r.handle.filled_tokens());
  }
  if (random_.chance(0.2)) {
    ++faults;  // cancelled: nothing is published
  } else {
    (void)call(open_[i]).commit();
  }
  ++operations;
  if (i + 1 != open_.size()) std::swap(open_[i], open_.back());
  open_.pop_back();
}

}  // namespace radixkv::cli
