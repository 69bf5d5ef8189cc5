#include "tests/support/cache_model.h"

#include <algorithm>
#include <cstdlib>

namespace radixkv::testing {

namespace {

std::string at_line(int line, const char* what) {
  return std::string("cache_model.cpp:") + std::to_string(line) + ": does not hold: " + what;
}

}  // namespace

#define MODEL_CHECK(condition)                              \
  do {                                                      \
    if (!(condition)) return at_line(__LINE__, #condition); \
  } while (false)

cache_model::cache_model(chooser below) : below_(std::move(below)) {
  options_.block_tokens = 1u << below_(6);
  options_.blocks = 20 + below_(200);
  options_.min_prefix_tokens = below_(3);
  options_.logits_rows = static_cast<std::int32_t>(below_(4));
  options_.hash_bits = below_(2) ? 64 : 8;
  options_.max_prefixes = below_(4) == 0 ? 5 : 0;
  if (const char* policy = std::getenv("RADIXKV_TEST_POLICY")) options_.policy = policy;
  holder_.push_back(kv_cache::create(options_).value());
  cache_ = &holder_[0];
  memory_.assign(static_cast<std::size_t>(options_.blocks),
                 std::vector<std::uint64_t>(options_.block_tokens));
  logits_.resize(static_cast<std::size_t>(options_.logits_rows));
}

std::uint64_t cache_model::fold(std::uint64_t h, token_id t) const noexcept {
  return h * 6364136223846793005ull + t + 1;
}

std::vector<token_id> cache_model::prompt() {
  std::vector<token_id> t;
  if (!history_.empty() && below_(4) != 0) {
    t = history_[below_(static_cast<std::uint32_t>(history_.size()))];
    if (below_(3) != 0) t.resize(below_(static_cast<std::uint32_t>(t.size()) + 1));
  }
  if (t.empty() || below_(3) != 0) {
    for (std::uint32_t n = 1 + below_(options_.block_tokens * 4); n > 0; --n)
      t.push_back(below_(2));
  }
  const std::size_t most = static_cast<std::size_t>(options_.blocks) * options_.block_tokens;
  if (t.size() > most) t.resize(most);
  return t;
}

void cache_model::run(step_plan& plan) {
  for (const block_copy& c : plan.copies) {
    const auto& from = memory_[static_cast<std::size_t>(c.source)];
    std::copy_n(from.begin(), c.tokens, memory_[static_cast<std::size_t>(c.destination)].begin());
  }
  plan.clear();
}

void cache_model::compute(const open_sequence& s, std::int64_t from, std::int64_t to) {
  std::uint64_t h = s.second_namespace ? 7 : 1;
  for (std::int64_t i = 0; i < to; ++i) {
    h = fold(h, s.tokens[static_cast<std::size_t>(i)]);
    if (i < from) continue;
    const block_id b = s.handle.block_table()[static_cast<std::size_t>(i / options_.block_tokens)];
    memory_[static_cast<std::size_t>(b)][static_cast<std::size_t>(i % options_.block_tokens)] = h;
  }
}

std::string cache_model::check(const open_sequence& s) {
  const sequence& q = s.handle;
  MODEL_CHECK(q.tokens() == static_cast<std::int64_t>(s.tokens.size()));
  MODEL_CHECK(q.committed_tokens() <= q.filled_tokens() && q.filled_tokens() <= q.tokens());
  MODEL_CHECK(q.tokens() <= q.capacity_tokens());
  std::vector<token_id> known(s.tokens.size());
  q.read_tokens(0, known);
  MODEL_CHECK(known == s.tokens);
  std::uint64_t h = s.second_namespace ? 7 : 1;
  for (std::int64_t i = 0; i < q.filled_tokens(); ++i) {
    h = fold(h, s.tokens[static_cast<std::size_t>(i)]);
    const block_id b = q.block_table()[static_cast<std::size_t>(i / options_.block_tokens)];
    MODEL_CHECK(
        memory_[static_cast<std::size_t>(b)][static_cast<std::size_t>(i % options_.block_tokens)] ==
        h);
    ++counts_.checked_tokens;
  }
  if (q.cached_logits() != no_slot) {
    MODEL_CHECK(logits_[static_cast<std::size_t>(q.cached_logits())] == h);
  }
  return {};
}

std::string cache_model::check_contents() {
  for (const open_sequence& s : open_) {
    if (std::string wrong = check(s); !wrong.empty()) return wrong;
  }
  return {};
}

std::string cache_model::adopt(sequence handle, std::vector<token_id> tokens, bool second) {
  ++counts_.opened;
  open_sequence s{std::move(handle), std::move(tokens), second};
  const auto n = static_cast<std::int64_t>(s.tokens.size());
  MODEL_CHECK(s.handle.cached_tokens() <= n - (s.handle.cached_logits() == no_slot));
  if (std::string wrong = check(s); !wrong.empty()) return wrong;
  compute(s, s.handle.cached_tokens(), n);
  MODEL_CHECK(s.handle.mark_filled(n).ok());
  history_.push_back(s.tokens);
  if (history_.size() > 30) history_.erase(history_.begin());
  if (open_.size() < 8) {
    open_.push_back(std::move(s));
  } else {
    return commit(s);
  }
  return {};
}

std::string cache_model::open() {
  step_plan plan;
  const bool second = below_(2) == 1;
  std::vector<token_id> t = prompt();
  result<sequence> s = cache_->open(t, second ? "second" : "", plan);
  if (!s) {
    ++counts_.refused;
    MODEL_CHECK(s.error().code == errc::out_of_blocks && plan.empty());
    return {};
  }
  run(plan);
  return adopt(std::move(*s), std::move(t), second);
}

std::string cache_model::open_batch() {
  step_plan plan;
  std::vector<std::vector<token_id>> prompts(1 + below_(4));
  std::vector<open_request> requests;
  for (auto& p : prompts) {
    p = prompt();
    requests.push_back({p, "second"});
  }
  open_batch_result opened = cache_->open_batch(requests, plan);
  MODEL_CHECK((opened.sequences.size() == prompts.size()) == opened.stopped.message.empty());
  run(plan);
  for (std::size_t i = 0; i < opened.sequences.size(); ++i) {
    std::string wrong = adopt(std::move(opened.sequences[i]), prompts[i], true);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

std::string cache_model::grow(open_sequence& s) {
  step_plan plan;
  std::vector<token_id> t(1 + below_(5));
  for (token_id& x : t) x = below_(2);
  if (!s.handle.append(t, plan)) {
    MODEL_CHECK(plan.empty());
    return {};
  }
  run(plan);
  s.tokens.insert(s.tokens.end(), t.begin(), t.end());
  compute(s, s.handle.filled_tokens(), s.handle.tokens());
  MODEL_CHECK(s.handle.mark_filled(s.handle.tokens()).ok());
  return {};
}

// A decode step with drafts: the pass writes KV for everything known and for the drafts.
std::string cache_model::decode(open_sequence& s) {
  step_plan plan;
  const std::uint32_t room = 1 + below_(4);
  if (!s.handle.reserve(room, plan)) {
    MODEL_CHECK(plan.empty());
    return {};
  }
  run(plan);
  std::vector<token_id> t(1 + below_(room));
  for (token_id& x : t) x = below_(2);
  const std::int64_t filled = s.handle.filled_tokens();
  s.tokens.insert(s.tokens.end(), t.begin(), t.end());
  compute(s, filled, static_cast<std::int64_t>(s.tokens.size()) - 1);
  MODEL_CHECK(s.handle.accept(t).ok());
  return {};
}

std::string cache_model::commit(open_sequence& s) {
  const auto n = below_(static_cast<std::uint32_t>(s.handle.filled_tokens()) + 1);
  const std::int64_t before = s.handle.committed_tokens();
  result<commit_result> done = s.handle.commit(n);
  MODEL_CHECK(done.ok() && done->published_tokens == std::max<std::int64_t>(before, n));
  if (n == 0) return {};
  const auto known = std::span(s.tokens).first(n);
  const prefix_match m = cache_->match(known, s.second_namespace ? "second" : "");
  // A limit on prefixes may have taken another request's part of the path, never this one's.
  MODEL_CHECK(m.tokens == static_cast<std::int64_t>(n));
  return {};
}

std::string cache_model::commit_logits(open_sequence& s) {
  const std::int64_t n = s.handle.filled_tokens();
  if (n == 0) return {};
  step_plan after;
  result<commit_result> done = s.handle.commit_logits(n, 3, after);
  MODEL_CHECK(done.ok());
  std::uint64_t h = s.second_namespace ? 7 : 1;
  for (std::int64_t i = 0; i < n; ++i) h = fold(h, s.tokens[static_cast<std::size_t>(i)]);
  for (const logits_move& m : after.logits) {
    MODEL_CHECK(m.slot == done->slot && m.row == 3);
    logits_[static_cast<std::size_t>(m.slot)] = h;
  }
  if (done->slot != no_slot) MODEL_CHECK(logits_[static_cast<std::size_t>(done->slot)] == h);
  return {};
}

std::string cache_model::truncate(open_sequence& s) {
  const std::int64_t committed = s.handle.committed_tokens();
  const std::int64_t n =
      committed + below_(static_cast<std::uint32_t>(s.handle.tokens() - committed) + 1);
  if (committed > 0) MODEL_CHECK(!s.handle.truncate(committed - 1).ok());
  MODEL_CHECK(s.handle.truncate(n).ok());
  s.tokens.resize(static_cast<std::size_t>(n));
  return {};
}

std::string cache_model::change(open_sequence& s) {
  switch (below_(8)) {
    case 0:
      return commit_logits(s);
    case 1:
      return commit(s);
    case 2:
    case 3:
      return decode(s);
    case 4:
      return grow(s);
    case 5: {
      result<sequence> child = s.handle.fork();
      MODEL_CHECK(child.ok());
      if (open_.size() >= 10) return {};
      open_.push_back({std::move(*child), s.tokens, s.second_namespace});
      return {};
    }
    case 6:
      return truncate(s);
    default:
      open_.erase(open_.begin() + (&s - open_.data()));
      return {};
  }
}

std::string cache_model::step() {
  ++counts_.operations;
  const std::uint32_t what = below_(12);
  if (what < 3 || open_.empty()) return open();
  if (what == 3) return open_batch();
  if (what == 4) {
    if (below_(3) == 0) {
      cache_->evict(below_(10));
    } else if (below_(20) == 0) {
      cache_->clear();
    }
    return {};
  }
  return change(open_[below_(static_cast<std::uint32_t>(open_.size()))]);
}

std::string cache_model::finish() {
  open_.clear();
  cache_statistics s = cache_->statistics();
  MODEL_CHECK(s.sequences == 0 && s.blocks_used == s.blocks_cached);
  cache_->clear();
  s = cache_->statistics();
  MODEL_CHECK(s.blocks_free == s.blocks && s.nodes == 0 && s.cached_tokens == 0);
  MODEL_CHECK(s.namespaces == 0 && s.logits_used == 0);
  return cache_->check_invariants();
}

#undef MODEL_CHECK

}  // namespace radixkv::testing
