#include "radixkv/cuda_index.h"

#include <new>
#include <string>
#include <utility>

#include "csrc/core/no_memory.h"
#include "csrc/core/range_check.h"
#include "csrc/cuda/cuda_index_state.h"
#include "csrc/cuda/device_secret.h"
#include "csrc/cuda/nvtx.h"

namespace radixkv {

using detail::check_range;

// The mirror checks what concerns blocks and hashes.
RADIXKV_EXPORT status cuda_index_options::validate() const try {
  constexpr std::uint32_t least_staging = 128 << 10;
  // Every slot takes an update some way, whatever the block size.
  static_assert(least_staging / detail::cuda_index_state::staging_slots >=
                detail::least_slot_bytes(kernels::max_match_block_tokens));
  if (status s =
          check_range("cuda_index: blocks", static_cast<std::uint64_t>(blocks), 1, max_blocks);
      !s)
    return s;
  if (status s = check_range("cuda_index: max_prompts", max_prompts, 1, 1 << 20); !s) return s;
  if (status s = check_range("cuda_index: max_prompt_tokens",
                             static_cast<std::uint64_t>(max_prompt_tokens), 1,
                             (std::uint64_t{1} << 31) - 1);
      !s) {
    return s;
  }
  if (status s = check_range("cuda_index: staging_bytes", staging_bytes, least_staging, 1u << 30);
      !s)
    return s;
  return check_range("cuda_index: matches_in_flight", matches_in_flight, 1, 4096);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say what is wrong");
}

cuda_index::cuda_index(std::unique_ptr<detail::cuda_index_state> state) noexcept
    : state_(std::move(state)) {}
cuda_index::cuda_index(cuda_index&&) noexcept = default;
cuda_index& cuda_index::operator=(cuda_index&&) noexcept = default;
cuda_index::~cuda_index() {
  if (state_ == nullptr) return;
  RADIXKV_RANGE("cuda_index::destroy");
  state_.reset();
}

result<cuda_index> cuda_index::create(const cuda_index_options& options) try {
  RADIXKV_RANGE("cuda_index::create");
  if (status s = options.validate(); !s) return s.error();
  auto mirror = detail::index_mirror::create(
      {.block_count = static_cast<std::int32_t>(options.blocks),
       .block_tokens = options.block_tokens,
       .secret = options.secret != 0 ? options.secret : device_secret(),
       .hash_bits = options.hash_bits});
  if (!mirror) return mirror.error();
  auto state = std::make_unique<detail::cuda_index_state>(std::move(*mirror));
  if (status s = state->create(options); !s) return s.error();
  return cuda_index(std::move(state));
} catch (const std::bad_alloc&) {
  return detail::no_memory("for an index of", options.blocks, "blocks");
}

status cuda_index::add(block_id block, block_id parent, std::int32_t namespace_id,
                       std::span<const token_id> tokens) try {
  return state_->add(block, parent, namespace_id, tokens);
} catch (const std::bad_alloc&) {  // only a message allocates beyond what is undone
  return detail::no_memory("to say what is wrong");
}

result<std::uint64_t> cuda_index::remove(block_id block) try {
  return state_->remove(block);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say what is wrong");
}

status cuda_index::update(cudaStream_t stream) try {
  RADIXKV_RANGE("cuda_index::update");
  return state_->update(stream);
} catch (const std::bad_alloc&) {
  return detail::no_memory("for an update of the index: it is still pending");
}

result<std::uint64_t> cuda_index::match(cudaStream_t stream, const cuda_match_batch& batch) try {
  RADIXKV_RANGE("cuda_index::match");
  return state_->match(stream, batch);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say why there is no match");
}

status cuda_index::find_shared(cudaStream_t stream, const cuda_match_batch& batch,
                               const cuda_shared_prefixes& results) try {
  RADIXKV_RANGE("cuda_index::find_shared");
  return state_->find_shared(stream, batch, results);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say why there is no search");
}

status cuda_index::finish(cudaStream_t stream, std::uint64_t ticket) try {
  RADIXKV_RANGE("cuda_index::finish");
  return state_->finish(stream, ticket);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say what is wrong");
}

std::uint64_t cuda_index::published() const { return state_->published(); }
result<std::uint64_t> cuda_index::retired() try {
  RADIXKV_RANGE("cuda_index::retired");
  return state_->retired();
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say what is wrong");
}

status cuda_index::synchronize() {
  RADIXKV_RANGE("cuda_index::synchronize");
  return state_->synchronize();
}

std::int64_t cuda_index::size() const { return state_->size(); }
std::string cuda_index::check_invariants() const { return state_->check_invariants(); }

}  // namespace radixkv
