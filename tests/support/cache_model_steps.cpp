// Operations of the model that take no plan before a pass: publishing, forks, matches, eviction,
// and calls that must be refused.
#include <algorithm>

#include "tests/support/cache_model.h"

namespace radixkv::testing {

std::string cache_model::change(open_sequence& s) {
  switch (below_(8)) {
    case 0:
      return s.handle.cached_logits() != no_slot ? load_logits(s) : commit_logits(s);
    case 1:
    case 2:
      return commit(s);
    case 3:
      return fork(s);
    case 4:
      return truncate(s);
    case 5:
      s.handle.note_output(below_(50));
      return check(s);
    default:
      return close(s);
  }
}

std::string cache_model::close(open_sequence& s) {
  // A request that is cancelled during a pass publishes nothing: its plan has not run.
  const bool waits =
      std::ranges::any_of(work_, [&](const work& w) { return w.id == s.handle.id(); });
  if (!s.failed && !waits && below_(2) == 0) MODEL_CALL(commit(s));
  if (below_(4) == 0) {
    sequence moved = std::move(s.handle);
    moved.release();
    MODEL_CHECK(moved.released() && moved.id() == 0 && moved.block_table().empty());
  }
  ++counts_.operations;
  std::swap(s, open_.back());
  open_.pop_back();
  return {};
}

std::string cache_model::fork(open_sequence& s) {
  result<sequence> child = call(s).fork();
  if (!child) {
    MODEL_CHECK(child.error().code == errc::out_of_blocks);
    MODEL_CHECK(static_cast<std::int64_t>(open_.size()) == options_.max_sequences);
    return {};
  }
  MODEL_CHECK(child->filled_tokens() == s.handle.filled_tokens());
  open_sequence copy{std::move(*child), s.tokens, s.hashes, s.space, s.failed};
  open_.push_back(std::move(copy));
  return check(open_.back());
}

std::string cache_model::commit(open_sequence& s) {
  const auto n = below_(static_cast<std::uint32_t>(s.handle.filled_tokens()) + 1);
  const std::int64_t before = s.handle.committed_tokens();
  result<commit_result> done = call(s).commit(n);
  if (s.failed) {
    MODEL_CHECK(!done && done.error().code == errc::released);
    return {};
  }
  MODEL_CHECK(done.ok() && done->published_tokens == std::max<std::int64_t>(before, n));
  published_.add(s.space,
                 std::span(s.tokens).first(static_cast<std::size_t>(done->published_tokens)));
  if (n == 0) return {};
  const auto known = std::span(s.tokens).first(n);
  table_.assign(s.handle.block_table().size(), no_block);
  const prefix_match m = call().match(known, model_spaces[s.space], table_);
  // A limit on prefixes may have taken another request's part of the path, never this one's.
  MODEL_CHECK(m.tokens == static_cast<std::int64_t>(n));
  return check_match(m, table_, known, s.space);
}

std::string cache_model::commit_logits(open_sequence& s) {
  const std::int64_t n = s.handle.filled_tokens();
  if (n == 0 || s.failed) return {};
  const auto row = static_cast<std::int32_t>(below_(model_memory::batch_rows));
  step_plan after;
  result<commit_result> done = call(s).commit_logits(n, row, after);
  MODEL_CHECK(done.ok() && done->published_tokens == n && after.copies.empty());
  published_.add(s.space, std::span(s.tokens).first(static_cast<std::size_t>(n)));
  if (done->slot == no_slot) {
    MODEL_CHECK(after.empty());
    return {};
  }
  const std::uint64_t hash = s.hashes[static_cast<std::size_t>(n) - 1];
  memory_.write_batch(row, hash);
  const auto known = std::span(s.tokens).first(static_cast<std::size_t>(n));
  bool ran = false;
  MODEL_CALL(run_plan(after, ran));
  if (!ran) {
    MODEL_CHECK(call().match(known, model_spaces[s.space]).slot == no_slot);
    return {};
  }
  MODEL_CHECK(memory_.store_holds(done->slot, hash));
  const prefix_match m = call().match(known, model_spaces[s.space]);
  MODEL_CHECK(m.tokens == n && m.slot == done->slot);
  return {};
}

std::string cache_model::load_logits(open_sequence& s) {
  const auto row = static_cast<std::int32_t>(below_(model_memory::batch_rows));
  step_plan plan;
  MODEL_CHECK(call(s).load_logits(row, plan).ok() && plan.logits.size() == 1);
  bool ran = false;
  MODEL_CALL(run_plan(plan, ran));
  if (ran) MODEL_CHECK(memory_.batch_holds(row, s.hashes.back()));
  return {};
}

std::string cache_model::truncate(open_sequence& s) {
  const std::int64_t committed = s.handle.committed_tokens();
  const std::int64_t n =
      committed + below_(static_cast<std::uint32_t>(s.handle.tokens() - committed) + 1);
  MODEL_CHECK(call(s).truncate(n).ok());
  s.tokens.resize(static_cast<std::size_t>(n));
  s.hashes.resize(static_cast<std::size_t>(n));
  return check(s);
}

std::string cache_model::check_match(const prefix_match& m, std::span<const block_id> table,
                                     std::span<const token_id> tokens, std::size_t space) {
  MODEL_CHECK(m.tokens <= static_cast<std::int64_t>(tokens.size()));
  MODEL_CHECK(m.blocks == m.tokens / options_.block_tokens);
  hashes_.clear();
  std::uint64_t h = space + 1;
  for (const token_id t : tokens) hashes_.push_back(h = model_memory::fold(h, t));
  const auto whole = static_cast<std::size_t>(m.blocks) * options_.block_tokens;
  MODEL_CHECK(memory_.holds(table, 0, std::span(hashes_).first(whole)));
  counts_.checked_tokens += static_cast<std::int64_t>(whole);
  if (listener_ && listener_->takes_all()) {
    const auto offered = [this](block_id b) { return listener_->offers(b); };
    MODEL_CHECK(std::ranges::all_of(table.first(static_cast<std::size_t>(m.blocks)), offered));
  }
  if (m.slot != no_slot) {
    MODEL_CHECK(m.tokens == static_cast<std::int64_t>(tokens.size()));
    MODEL_CHECK(memory_.store_holds(m.slot, h));
  }
  if (exact()) {
    MODEL_CHECK(m.tokens == published_.longest(space, tokens));
    ++counts_.exact_matches;
  }
  return {};
}

std::string cache_model::match() {
  const std::size_t space = below_(published_prefixes::spaces);
  const std::vector<token_id> t = prompt();
  table_.assign(t.size(), no_block);
  const prefix_match m = call().match(t, model_spaces[space], table_);
  return check_match(m, table_, t, space);
}

std::string cache_model::match_batch() {
  std::vector<std::vector<token_id>> prompts(1 + below_(size_ == model_size::mixed ? 80 : 4));
  std::vector<open_request> requests;
  std::vector<std::size_t> spaces;
  std::vector<std::vector<block_id>> ids;
  for (auto& p : prompts) {
    p = prompt();
    spaces.push_back(below_(published_prefixes::spaces));
    requests.push_back({p, model_spaces[spaces.back()]});
    ids.emplace_back(p.size(), no_block);
  }
  std::vector<prefix_match> out(prompts.size());
  const std::vector<std::span<block_id>> tables(ids.begin(), ids.end());
  MODEL_CHECK(call().match_batch(requests, out, tables).ok());
  for (std::size_t i = 0; i < out.size(); ++i) {
    MODEL_CALL(check_match(out[i], ids[i], prompts[i], spaces[i]));
  }
  return {};
}

std::string cache_model::evict() {
  const std::int64_t before = given_up();
  if (below_(size_ == model_size::wide ? 1000 : 32) == 0) {
    const std::int64_t freed = call().clear();
    MODEL_CHECK(freed == given_up() - before);
    if (open_.empty()) MODEL_CHECK(cache_.statistics().nodes == 0);
    MODEL_CHECK(!call().can_allocate(before + freed + 1));
    resynchronise();
    return {};
  }
  const std::int64_t n = below_(10);
  const std::int64_t freed = call().evict(n);
  MODEL_CHECK(freed >= 0 && freed <= n && freed == given_up() - before);
  MODEL_CHECK(freed == n || !call().can_allocate(before + freed + 1));
  return {};
}

// Calls that must be refused and change nothing; the model goes on as if they had not been made.
std::string cache_model::misuse() {
  ++counts_.misuses;
  open_sequence& s = any();
  const std::int64_t tokens = s.handle.tokens();
  const auto refused = [](const status& st, errc code) {
    return !st && st.error().code == code && !st.error().message.empty();
  };
  if (listener_ && below_(4) == 0) return misuse_of_hints(s);
  step_plan plan;
  switch (below_(9)) {
    case 0: {
      const result<sequence> none = call().open({}, "", plan);
      MODEL_CHECK(!none && none.error().code == errc::invalid_argument);
      break;
    }
    case 1: {
      const std::vector<token_id> t(
          static_cast<std::size_t>(options_.blocks) * options_.block_tokens + 1);
      const result<sequence> none = call().open(t, "", plan);
      MODEL_CHECK(!none && none.error().code == errc::invalid_argument);
      const std::vector<open_request> batch{{t, ""}};
      const open_batch_result nobody = call().open_batch(batch, plan);
      MODEL_CHECK(nobody.sequences.empty() && nobody.stopped.code == errc::invalid_argument);
      break;
    }
    case 2:
      MODEL_CHECK(refused(call(s).reserve(-1, plan), errc::invalid_argument));
      MODEL_CHECK(refused(call(s).reserve(max_sequence_tokens, plan), errc::invalid_argument));
      break;
    case 3: {
      const std::vector<token_id> t(static_cast<std::size_t>(s.handle.capacity_tokens() - tokens) +
                                    1);
      MODEL_CHECK(refused(call(s).accept(t), errc::invalid_argument));
      break;
    }
    case 4:
      MODEL_CHECK(refused(call(s).mark_filled(tokens + 1), errc::invalid_argument));
      MODEL_CHECK(
          refused(call(s).mark_filled(s.handle.filled_tokens() - 1), errc::invalid_argument));
      break;
    case 5:
      MODEL_CHECK(refused(call(s).truncate(tokens + 1), errc::invalid_argument));
      MODEL_CHECK(
          refused(call(s).truncate(s.handle.committed_tokens() - 1), errc::invalid_argument));
      break;
    case 6:
      MODEL_CHECK(!call(s).commit(s.handle.filled_tokens() + 1).ok());
      MODEL_CHECK(!call(s).commit(-1).ok());
      MODEL_CHECK(!call(s).commit_logits(s.handle.filled_tokens(), -1, plan).ok());
      break;
    case 7:
      if (s.handle.cached_logits() == no_slot) {
        MODEL_CHECK(refused(call(s).load_logits(0, plan), errc::not_found));
      } else {
        MODEL_CHECK(refused(call(s).load_logits(-1, plan), errc::invalid_argument));
      }
      break;
    default: {
      sequence gone;
      MODEL_CHECK(refused(gone.append({}, plan), errc::released));
      MODEL_CHECK(refused(gone.reserve(1, plan), errc::released));
      MODEL_CHECK(refused(gone.truncate(0), errc::released));
      MODEL_CHECK(!gone.fork().ok() && !gone.commit().ok());
      MODEL_CHECK(call().evict(-3) == 0 && call().evict(0) == 0);
      break;
    }
  }
  MODEL_CHECK(plan.empty());
  return check(s);
}

}  // namespace radixkv::testing
