// Hints of the model: announcements, prefixes that stay, quotas, and what is said of sequences.
#include <array>
#include <cstddef>
#include <limits>

#include "tests/support/cache_model.h"

namespace radixkv::testing {

std::string cache_model::hint() {
  const std::size_t space = below_(published_prefixes::spaces);
  switch (below_(6)) {
    case 0:
    case 1: {
      const std::vector<token_id> t = prompt();
      result<announcement> a = call().announce(t, model_spaces[space]);
      MODEL_CHECK(a.ok() || a.error().code == errc::busy);
      if (!a) return {};
      announced_.push_back(std::move(*a));
      ++counts_.hints;
      return {};
    }
    case 2:
      if (!announced_.empty()) announced_.erase(announced_.begin());
      return {};
    case 3: {
      std::vector<token_id> t = prompt();
      // A few blocks, so that not everything is pinned.
      const auto most = static_cast<std::size_t>(options_.blocks / 10 * options_.block_tokens);
      if (t.size() > most || pins_.size() == 3) return {};
      result<pinned_prefix> p = call().pin_prefix(t, model_spaces[space]);
      MODEL_CHECK(p.ok());
      pins_.push_back({std::move(*p), std::move(t), space});
      ++counts_.hints;
      return {};
    }
    case 4:
      if (!pins_.empty() && below_(3) == 0) pins_.erase(pins_.begin());
      return {};
    default: {
      quota_ = below_(3) != 0;
      const auto blocks = static_cast<std::uint32_t>(options_.blocks);
      MODEL_CHECK(
          call().set_quota(model_spaces[quota_space], quota_ ? 1 + below_(blocks) : 0).ok());
      return {};
    }
  }
}

std::string cache_model::hint(open_sequence& s) {
  const auto n = static_cast<std::uint32_t>(s.handle.tokens());
  const auto taken = [this](const status& outcome) {
    counts_.hints += outcome.ok();
    return outcome.ok() || outcome.error().code == errc::busy;
  };
  // The model's clock goes on by a hundredth of a second each time that it is read.
  const double soon = 0.01 * (1 + below_(50));
  switch (below_(4)) {
    case 0: {
      if (n == 0) return {};
      const std::uint32_t first = below_(n);
      const std::uint32_t count = 1 + below_(n - first);
      MODEL_CHECK(taken(call(s).set_priority(first, count, static_cast<int>(below_(7)) - 3)));
      return {};
    }
    case 1:
      MODEL_CHECK(taken(call(s).set_ttl(soon)));
      return {};
    case 2:
      MODEL_CHECK(taken(call(s).expect_return(below_(5) / 4.0, soon)));
      return {};
    default:
      MODEL_CHECK(taken(call(s).ended()));
      return {};
  }
}

// Hints that must be refused and change nothing, and calls with ranges that do not fit.
std::string cache_model::misuse_of_hints(open_sequence& s) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const auto refused = [](const auto& r, errc code = errc::invalid_argument) {
    return !r.ok() && r.error().code == code && !r.error().message.empty();
  };
  const cache_statistics before = cache_.statistics();
  MODEL_CHECK(refused(call().announce({}, "")) && refused(call().pin_prefix({}, "")));
  MODEL_CHECK(refused(call().set_quota("", -1)));
  MODEL_CHECK(refused(call().set_quota("", max_blocks + 1)));
  MODEL_CHECK(refused(call(s).set_priority(-1, 1, 1)) && refused(call(s).set_priority(0, 0, 1)));
  MODEL_CHECK(refused(call(s).set_priority(0, 1, 101)));
  MODEL_CHECK(refused(call(s).set_ttl(0)) && refused(call(s).set_ttl(nan)));
  MODEL_CHECK(refused(call(s).expect_return(nan, 1)) && refused(call(s).expect_return(1.1, 1)));
  MODEL_CHECK(refused(call(s).expect_return(0.5, -1)));
  std::array<token_id, 1> out{};
  MODEL_CHECK(refused(s.handle.read_tokens(s.handle.tokens(), out)));
  MODEL_CHECK(refused(s.handle.read_tokens(-1, out)));
  const std::array<open_request, 2> requests{{{s.tokens, ""}, {s.tokens, ""}}};
  std::array<prefix_match, 2> found;
  const std::array<std::span<block_id>, 1> tables;
  MODEL_CHECK(refused(call().match_batch(requests, std::span(found).first(1))));
  MODEL_CHECK(refused(call().match_batch(requests, found, tables)));
  const std::array<std::byte, 3> no_weights{};
  MODEL_CHECK(!call().load_policy(no_weights).ok());
  const cache_statistics after = cache_.statistics();
  MODEL_CHECK(after.announcements == before.announcements &&
              after.pinned_prefixes == before.pinned_prefixes &&
              after.sequence_hints == before.sequence_hints && after.nodes == before.nodes);
  return check(s);
}

// What pins hold is cached.
std::string cache_model::check_pins() {
  for (const pin& p : pins_) {
    const std::int64_t held = p.handle.held_tokens();
    MODEL_CHECK(held <= static_cast<std::int64_t>(p.tokens.size()));
    MODEL_CHECK(call().match(p.tokens, model_spaces[p.space]).tokens >= held);
    counts_.stayed += held > 0;
  }
  return {};
}

}  // namespace radixkv::testing
