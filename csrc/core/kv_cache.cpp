// The façade: forwards to the core.
#include "radixkv/kv_cache.h"

#include <new>

#include "csrc/core/cache_core.h"
#include "csrc/core/no_memory.h"

namespace radixkv {

result<kv_cache> kv_cache::create(cache_options options) try {
  auto core = std::make_shared<detail::cache_core>(std::move(options));
  if (status started = core->start(); !started) return std::move(started).error();
  return kv_cache(std::move(core));
} catch (const std::bad_alloc&) {
  return detail::no_memory("for a cache");
}

kv_cache::kv_cache(std::shared_ptr<detail::cache_core> core) noexcept : core_(std::move(core)) {}
kv_cache::kv_cache(kv_cache&&) noexcept = default;
kv_cache& kv_cache::operator=(kv_cache&&) noexcept = default;
kv_cache::~kv_cache() = default;

const cache_options& kv_cache::options() const noexcept { return core_->options(); }

prefix_match kv_cache::match(std::span<const token_id> tokens, std::string_view name_space) const {
  return core_->match(tokens, name_space, {});
}
prefix_match kv_cache::match(std::span<const token_id> tokens, std::string_view name_space,
                             std::span<block_id> table) const {
  return core_->match(tokens, name_space, table);
}
status kv_cache::match_batch(std::span<const open_request> requests, std::span<prefix_match> out,
                             std::span<const std::span<block_id>> tables) const try {
  const auto check_length = [&](std::size_t n, const char* what) -> status {
    if (n == requests.size()) return {};
    return {errc::invalid_argument, "a batch of " + std::to_string(requests.size()) +
                                        " requests cannot be matched into " + std::to_string(n) +
                                        " " + what};
  };
  if (status ok = check_length(out.size(), "results"); !ok) return ok;
  if (!tables.empty()) {
    if (status ok = check_length(tables.size(), "block tables"); !ok) return ok;
  }
  core_->match_batch(requests, out, tables);
  return {};
} catch (const std::bad_alloc&) {
  return detail::no_memory("to say what is wrong");
}

result<sequence> kv_cache::open(std::span<const token_id> tokens, std::string_view name_space,
                                step_plan& plan) {
  result<detail::state_ptr> s = core_->open(tokens, name_space, plan);
  if (!s) return std::move(s).error();
  return sequence(std::move(*s));
}

status kv_cache::check_announced(const announcement& announced) const try {
  if (announced.core_ == nullptr || announced.core_ == core_) return {};
  return {errc::invalid_argument, "the announcement is of another cache"};
} catch (const std::bad_alloc&) {
  return detail::no_memory("to say what is wrong");
}

result<sequence> kv_cache::open(std::span<const token_id> tokens, std::string_view name_space,
                                step_plan& plan, announcement& announced) {
  if (status own = check_announced(announced); !own) return std::move(own).error();
  const detail::mark_id mark = announced.withdrawn() ? detail::no_mark : announced.mark_;
  result<detail::state_ptr> s = core_->open(tokens, name_space, plan, mark);
  if (!s) return std::move(s).error();
  announced.core_.reset();
  return sequence(std::move(*s));
}

open_batch_result kv_cache::open_batch(std::span<const open_request> requests, step_plan& plan) {
  open_batch_result out;
  std::vector<detail::state_ptr> opened;
  std::vector<detail::mark_id> marks;
  try {
    // Nothing may be opened that could not be handed over.
    out.sequences.reserve(requests.size());
    opened.reserve(requests.size());
    marks.assign(requests.size(), detail::no_mark);
  } catch (const std::bad_alloc&) {
    out.stopped = detail::no_memory("to open a batch of",
                                    static_cast<std::int64_t>(requests.size()), "requests");
    return out;
  }
  std::size_t valid = 0;  // requests before one with another cache's announcement
  error stopped;
  for (; valid < requests.size(); ++valid) {
    const announcement* const a = requests[valid].announced;
    if (a == nullptr || a->withdrawn()) continue;
    if (status own = check_announced(*a); !own) {
      stopped = std::move(own).error();
      break;
    }
    marks[valid] = a->mark_;
  }
  core_->open_batch(requests.first(valid), std::span(marks).first(valid), plan, opened,
                    out.stopped);
  if (opened.size() == valid) out.stopped = std::move(stopped);
  for (std::size_t i = 0; i < opened.size(); ++i) {
    if (requests[i].announced != nullptr) requests[i].announced->core_.reset();
  }
  for (detail::state_ptr& s : opened) out.sequences.push_back(sequence(std::move(s)));
  return out;
}

std::int64_t kv_cache::evict(std::int64_t n) { return core_->evict(n); }
std::int64_t kv_cache::clear() { return core_->clear(); }
bool kv_cache::can_allocate(std::int64_t n) const { return core_->can_allocate(n); }
result<announcement> kv_cache::announce(std::span<const token_id> tokens,
                                        std::string_view name_space) {
  result<detail::mark_id> mark = core_->announce(tokens, name_space);
  if (!mark) return std::move(mark).error();
  return announcement(core_, *mark);
}
result<pinned_prefix> kv_cache::pin_prefix(std::span<const token_id> tokens,
                                           std::string_view name_space) {
  result<detail::mark_id> mark = core_->pin_prefix(tokens, name_space);
  if (!mark) return std::move(mark).error();
  return pinned_prefix(core_, *mark);
}
status kv_cache::set_quota(std::string_view name_space, std::int64_t blocks) {
  return core_->set_quota(name_space, blocks);
}
result<std::vector<std::byte>> kv_cache::save_policy() const { return core_->save_policy(); }
status kv_cache::load_policy(std::span<const std::byte> learnt) {
  return core_->load_policy(learnt);
}
void kv_cache::report_failure(const step_plan& plan) { core_->report_failure(plan); }
cache_statistics kv_cache::statistics() const { return core_->statistics(); }
result<std::vector<sequence_info>> kv_cache::sequences() const try {
  return core_->sequences();
} catch (const std::bad_alloc&) {
  return detail::no_memory("for a list of the open sequences");
}
result<std::string> kv_cache::dump(std::size_t max_lines) const try {
  return core_->dump(max_lines);
} catch (const std::bad_alloc&) {
  return detail::no_memory("for a dump of the index");
}
status kv_cache::for_each_prefix(
    const std::function<bool(std::string_view, std::span<const token_id>)>& visit) const try {
  core_->for_each_prefix(visit);
  return {};
} catch (const std::bad_alloc&) {
  return detail::no_memory("to visit the cached prefixes");
}
std::string kv_cache::check_invariants() const try {
  return core_->check();
} catch (const std::bad_alloc&) {
  return "no host memory";  // short enough to need none
}

}  // namespace radixkv
