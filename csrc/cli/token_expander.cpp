#include "csrc/cli/token_expander.h"

#include "csrc/cli/mixed.h"

namespace radixkv::cli {
namespace {

constexpr std::uint64_t line_tokens = 64 / sizeof(token_id);

constexpr std::uint64_t aligned(std::uint64_t tokens) noexcept {
  return (tokens + line_tokens - 1) / line_tokens * line_tokens;
}

}  // namespace

void expand_segment(std::uint64_t id, std::span<token_id> out) noexcept {
  std::uint64_t state = mixed(id + 0x9e3779b97f4a7c15u);
  for (token_id& token : out) {
    state += 0x9e3779b97f4a7c15u;
    token = static_cast<token_id>(mixed(state) >> 33);
  }
}

result<std::size_t> prompt_buffer::expand(const trace& source, std::size_t first,
                                          std::uint64_t tokens_at_most) {
  if (source_ == &source && first_ == first && limit_ == tokens_at_most && end_ > first) {
    return end_;
  }
  source_ = nullptr;
  offsets_.clear();
  std::uint64_t tokens = 0;
  std::size_t end = first;
  for (; end < source.requests.size(); ++end) {
    const std::uint64_t size = aligned(source.requests[end].prompt_tokens);
    if (end > first && tokens + size > tokens_at_most) break;
    offsets_.push_back(tokens);
    tokens += size;
  }
  if (tokens > tokens_.tokens()) {
    if (status s = tokens_.allocate(tokens, "prompts"); !s) return s.error();
  }
  for (std::size_t r = first; r < end; ++r) {
    token_id* out = tokens_.data() + offsets_[r - first];
    for (const segment& s : source.segments_of(source.requests[r])) {
      expand_segment(s.id, {out, s.tokens});
      out += s.tokens;
    }
  }
  source_ = &source;
  first_ = first;
  end_ = end;
  limit_ = tokens_at_most;
  return end;
}

std::span<const token_id> prompt_buffer::prompt(std::size_t request) const noexcept {
  return {tokens_.data() + offsets_[request - first_], source_->requests[request].prompt_tokens};
}

}  // namespace radixkv::cli
