#include "csrc/core/cache_core.h"

#include <chrono>
#include <new>

#include <unistd.h>

namespace radixkv::detail {

namespace {

pressure level_of(const block_pool& pool, const cache_options& o) {
  const auto free = static_cast<double>(pool.free());
  const auto all = static_cast<double>(pool.blocks());
  if (free < o.low_watermark * all) return pressure::high;
  return free < o.high_watermark * all ? pressure::low : pressure::none;
}

// Bytes that are likely to be still in the last-level cache when they are used again: a quarter of
// it, since others use it too.
std::int64_t cached_bytes() noexcept {
#if defined(_SC_LEVEL3_CACHE_SIZE)
  if (const long bytes = ::sysconf(_SC_LEVEL3_CACHE_SIZE); bytes > 0) return bytes / 4;
#endif
  return 2 << 20;
}

}  // namespace

cache_core::guard::~guard() {
  core_.tree_.settle();
  if (!core_.options_.on_pressure) return;
  const pressure level = level_of(core_.pool_, core_.options_);
  if (level == core_.pressure_) return;
  core_.pressure_ = level;
  const pressure_event event{level, core_.pool_.free(), core_.pool_.blocks()};
  lock_.unlock();
  core_.options_.on_pressure(event);
}

// The policy by its name, or the application's own.
status cache_core::start_policy() {
  if (!options_.policy_factory) {
    result<std::unique_ptr<eviction_policy>> policy = make_policy(options_.policy);
    if (!policy) return policy.error();
    policy_.emplace(std::move(*policy));
    return {};
  }
  std::unique_ptr<eviction_policy> own = options_.policy_factory();
  if (own == nullptr) return {errc::invalid_argument, "policy_factory made no policy"};
  if (own->name().empty()) {
    return {errc::invalid_argument, "policy_factory made a policy with an empty name"};
  }
  const std::uint32_t hashed = own->path_hash_tokens(options_.block_tokens);
  if (hashed % options_.block_tokens != 0) {
    return {errc::invalid_argument, "path_hash_tokens " + std::to_string(hashed) + " of policy '" +
                                        std::string(own->name()) +
                                        "' is not a multiple of block_tokens " +
                                        std::to_string(options_.block_tokens)};
  }
  options_.policy = own->name();
  policy_.emplace(std::move(own));
  return {};
}

status cache_core::start() {
  if (status valid = options_.validate(); !valid) return valid;
  if (status made = start_policy(); !made) return made;
  radix_tree::options o;
  o.blocks = options_.blocks;
  o.block_tokens = options_.block_tokens;
  // A namespace has a block or an open sequence.
  o.max_roots = options_.blocks + options_.max_sequences;
  o.hash_bits = options_.hash_bits;
  o.prefault = options_.prefault;
  if (!pool_.create(options_.blocks, options_.listener != nullptr) ||
      !failed_.create(options_.blocks) || (options_.prefault && !pool_.prefault()) ||
      !tree_.create(o)) {
    return {errc::out_of_memory, "no host memory for an index of " +
                                     std::to_string(options_.blocks) + " blocks of " +
                                     std::to_string(options_.block_tokens) + " tokens"};
  }
  if (options_.logits_rows > 0) {
    result<slot_map> slots =
        slot_map::create(options_.logits_rows, options_.block_tokens, options_.hash_bits);
    if (!slots) return slots.error();
    slots_.emplace(std::move(*slots));
  }
  streams_rows_ = options_.blocks * block_tokens() * 4 > cached_bytes();
  tree_.observe(&*policy_);
  policy_->attach(tree_, options_.blocks);
  path_digest_ = path_digest(policy_->path_hash_tokens(options_.block_tokens));
  always_hashes_ = policy_->always_hashes(options_.block_tokens);
  return {};
}

double cache_core::now() const noexcept {
  if (options_.clock) return options_.clock();
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace radixkv::detail
