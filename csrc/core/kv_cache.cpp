// The façade: forwards to the core.
#include "radixkv/kv_cache.h"

#include <new>

#include "csrc/core/cache_core.h"

namespace radixkv {

result<kv_cache> kv_cache::create(cache_options options) try {
  auto core = std::make_shared<detail::cache_core>(std::move(options));
  if (status started = core->start(); !started) return started.error();
  return kv_cache(std::move(core));
} catch (const std::bad_alloc&) {
  return {errc::out_of_memory, "no host memory for a cache"};
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
void kv_cache::match_batch(std::span<const open_request> requests, std::span<prefix_match> out,
                           std::span<const std::span<block_id>> tables) const {
  core_->match_batch(requests, out, tables);
}

result<sequence> kv_cache::open(std::span<const token_id> tokens, std::string_view name_space,
                                step_plan& plan) {
  result<detail::state_ptr> s = core_->open(tokens, name_space, plan);
  if (!s) return s.error();
  return sequence(std::move(*s));
}

open_batch_result kv_cache::open_batch(std::span<const open_request> requests, step_plan& plan) {
  open_batch_result out;
  std::vector<detail::state_ptr> opened;
  core_->open_batch(requests, plan, opened, out.stopped);
  out.sequences.reserve(opened.size());
  for (detail::state_ptr& s : opened) out.sequences.push_back(sequence(std::move(s)));
  return out;
}

std::int64_t kv_cache::evict(std::int64_t n) { return core_->evict(n); }
std::int64_t kv_cache::clear() { return core_->clear(); }
bool kv_cache::can_allocate(std::int64_t n) const { return core_->can_allocate(n); }
void kv_cache::report_failure(const step_plan& plan) { core_->report_failure(plan); }
cache_statistics kv_cache::statistics() const { return core_->statistics(); }
std::vector<sequence_info> kv_cache::sequences() const { return core_->sequences(); }
std::string kv_cache::dump(std::size_t max_lines) const { return core_->dump(max_lines); }
void kv_cache::for_each_prefix(
    const std::function<bool(std::string_view, std::span<const token_id>)>& visit) const {
  core_->for_each_prefix(visit);
}
std::string kv_cache::check_invariants() const { return core_->check(); }

}  // namespace radixkv
