// Passes of the model: requests are opened, sequences grow, one plan is run, KV is computed.
#include <algorithm>

#include "tests/support/cache_model.h"

namespace radixkv::testing {

std::string cache_model::pass() {
  plan_.clear();
  work_.clear();
  for (std::uint32_t n = below_(4) == 0 ? 1 + below_(4) : 1; n > 0; --n) {
    const std::uint32_t what = below_(8);
    if (open_.empty() || what < 3) {
      MODEL_CALL(plan_open());
    } else if (what == 3) {
      MODEL_CALL(plan_open_batch());
    } else {
      open_sequence& s = any();
      const bool taken = std::any_of(work_.begin(), work_.end(),
                                     [&](const work& w) { return w.id == s.handle.id(); });
      if (!taken) MODEL_CALL(plan_growth(s));
    }
    if (n > 1 && below_(8) == 0) MODEL_CALL(evict());
  }
  bool ran = false;
  MODEL_CALL(run_plan(plan_, ran));
  for (const work& w : work_) MODEL_CALL(compute(w));
  work_.clear();
  // Few sequences stay open: the pool is small.
  while (open_.size() > 10) MODEL_CALL(close(any()));
  return {};
}

std::string cache_model::run_plan(const step_plan& plan, bool& ran) {
  const auto operations = static_cast<std::uint32_t>(plan.copies.size() + plan.logits.size());
  for (const block_copy& c : plan.copies) {
    MODEL_CHECK(!listener_ || !listener_->names(c.destination));
  }
  const bool fail = inject_ && operations > 0 && below_(16) == 0;
  ran = memory_.run(plan, fail ? below_(operations) : -1).ok();
  MODEL_CHECK(ran != fail);
  if (ran) return {};
  ++counts_.failed_plans;
  return settle_failure(plan);
}

// Whoever holds a destination may not publish; everybody else's bytes are what they were.
std::string cache_model::settle_failure(const step_plan& plan) {
  call().report_failure(plan);
  for (open_sequence& s : open_) {
    const result<commit_result> probe = call(s).commit(s.handle.committed_tokens());
    if (!probe) {
      MODEL_CHECK(probe.error().code == errc::released);
      const std::span<const block_id> table = s.handle.block_table();
      MODEL_CHECK(s.failed ||
                  std::any_of(plan.copies.begin(), plan.copies.end(), [&](const block_copy& c) {
                    return std::ranges::count(table, c.destination) > 0;
                  }));
      s.failed = true;
    } else {
      MODEL_CHECK(!s.failed);
      MODEL_CALL(check(s));
    }
  }
  return {};
}

std::string cache_model::adopt(sequence handle, std::vector<token_id> tokens, std::size_t space,
                               std::int64_t expected) {
  ++counts_.opened;
  open_sequence s{std::move(handle), {}, {}, space, false};
  lengthen(s, tokens);
  const auto n = static_cast<std::int64_t>(tokens.size());
  MODEL_CHECK(s.handle.cached_tokens() <= n - (s.handle.cached_logits() == no_slot));
  MODEL_CHECK(s.handle.filled_tokens() == s.handle.cached_tokens());
  MODEL_CHECK(s.handle.cached_tokens() <= s.handle.matched_tokens());
  if (expected >= 0) {
    if (expected < static_cast<std::int64_t>(options_.min_prefix_tokens)) expected = 0;
    MODEL_CHECK(s.handle.matched_tokens() == expected);
    ++counts_.exact_matches;
  }
  if (history_.size() < 24) {
    history_.push_back(std::move(tokens));
  } else {
    history_[below_(24)] = std::move(tokens);
  }
  work_.push_back({s.handle.id(), false, {}});
  open_.push_back(std::move(s));
  return {};
}

std::string cache_model::plan_open() {
  const std::size_t space = below_(published_prefixes::spaces);
  std::vector<token_id> t = prompt();
  const std::int64_t expected = exact() ? published_.longest(space, t) : -1;
  const std::size_t copies = plan_.copies.size();
  const auto blocks =
      static_cast<std::int64_t>((t.size() + options_.block_tokens - 1) / options_.block_tokens);
  const std::int64_t evicted = cache_.statistics().evicted_blocks;
  announcement nothing;
  const bool waited = !announced_.empty() && below_(2) == 0;
  announcement& announced = waited ? announced_.back() : nothing;
  result<sequence> s = call().open(t, model_spaces[space], plan_, announced);
  MODEL_CHECK(announced.withdrawn() == (s.ok() || !waited));
  if (s && waited) announced_.pop_back();
  if (!s) {
    ++counts_.refused;
    MODEL_CHECK(s.error().code == errc::out_of_blocks ||
                (limited(space) && s.error().code == errc::invalid_argument));
    MODEL_CHECK(plan_.copies.size() == copies);
    MODEL_CHECK(cache_.statistics().evicted_blocks == evicted || retiring());
    MODEL_CHECK(!open_.empty() || !pins_.empty() || limited(space) || retiring());
    MODEL_CHECK(static_cast<std::int64_t>(open_.size()) == options_.max_sequences ||
                limited(space) || retiring() || !call().can_allocate(blocks));
    return below_(2) == 0 && !open_.empty() ? close(any()) : std::string();
  }
  return adopt(std::move(*s), std::move(t), space, expected);
}

std::string cache_model::plan_open_batch() {
  const std::size_t space = below_(published_prefixes::spaces);
  std::vector<std::vector<token_id>> prompts(1 + below_(4));
  std::vector<open_request> requests;
  std::vector<std::int64_t> expected;
  // What an earlier request of the batch evicts is missed by a later one.
  const bool known = exact();
  for (auto& p : prompts) {
    p = prompt();
    requests.push_back({p, model_spaces[space]});
    expected.push_back(known ? published_.longest(space, p) : -1);
  }
  open_batch_result opened = call().open_batch(requests, plan_);
  MODEL_CHECK((opened.sequences.size() == prompts.size()) == opened.stopped.message.empty());
  MODEL_CHECK(opened.stopped.message.empty() || opened.stopped.code == errc::out_of_blocks ||
              (limited(space) && opened.stopped.code == errc::invalid_argument));
  const bool still = exact();
  for (std::size_t i = 0; i < opened.sequences.size(); ++i) {
    MODEL_CALL(adopt(std::move(opened.sequences[i]), std::move(prompts[i]), space,
                     still || i == 0 ? expected[i] : -1));
  }
  return {};
}

std::string cache_model::plan_growth(open_sequence& s) {
  const std::size_t copies = plan_.copies.size();
  const std::int64_t before = s.handle.tokens();
  const std::int64_t filled = s.handle.filled_tokens();
  const bool append = below_(2) == 0;
  std::vector<token_id> more(append ? 1 + below_(5) : below_(5));
  for (token_id& t : more) t = below_(2);
  const auto n = static_cast<std::int64_t>(more.size());
  const status grown = append ? call(s).append(more, plan_) : call(s).reserve(n, plan_);
  if (!grown) {
    ++counts_.refused;
    MODEL_CHECK(plan_.copies.size() == copies);
    MODEL_CHECK(s.handle.tokens() == before && s.handle.filled_tokens() == filled);
    const std::int64_t b = options_.block_tokens;
    MODEL_CHECK(before + n > options_.blocks * b
                    ? grown.error().code == errc::invalid_argument
                    : grown.error().code == errc::out_of_blocks &&
                          (limited(s.space) || retiring() ||
                           !call().can_allocate((before + n + b - 1) / b - filled / b)));
    return {};
  }
  if (append) {
    lengthen(s, more);
    work_.push_back({s.handle.id(), false, {}});
  } else {
    if (!more.empty()) more.resize(below_(static_cast<std::uint32_t>(n)) + 1);
    const bool decode = !more.empty();
    work_.push_back({s.handle.id(), decode, std::move(more)});
  }
  return {};
}

// The forward pass: KV of everything known, or of a part of it (chunked prefill), and of drafts.
std::string cache_model::compute(const work& w) {
  open_sequence* const found = with_id(w.id);
  if (!found) return {};  // a cancelled request
  open_sequence& s = *found;
  MODEL_CALL(check(s));
  if (s.failed) return {};  // its caller gives it up
  const std::int64_t filled = s.handle.filled_tokens();
  if (w.decode) lengthen(s, w.accepted);
  std::int64_t to = static_cast<std::int64_t>(s.tokens.size());
  if (w.decode) --to;
  if (!w.decode && to > filled && below_(8) == 0) {
    to = filled + below_(static_cast<std::uint32_t>(to - filled) + 1);
  }
  for (std::int64_t at = filled; listener_ && at < to; ++at) {
    const auto block = static_cast<std::size_t>(at / options_.block_tokens);
    MODEL_CHECK(!listener_->names(s.handle.block_table()[block]));
  }
  memory_.write(s.handle.block_table(), filled,
                std::span(s.hashes).subspan(static_cast<std::size_t>(filled),
                                            static_cast<std::size_t>(to - filled)));
  const status done = w.decode ? call(s).accept(w.accepted) : call(s).mark_filled(to);
  MODEL_CHECK(done.ok() && s.handle.filled_tokens() == to);
  return {};
}

}  // namespace radixkv::testing
