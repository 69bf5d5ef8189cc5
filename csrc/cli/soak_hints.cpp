// What a soak's threads say beforehand: announcements, prefixes that stay, quotas, priorities,
// times to live, returns; and learnt weights, saved, loaded and damaged.
#include <algorithm>
#include <cstddef>
#include <utility>

#include "csrc/cli/soak_worker.h"

namespace radixkv::cli {
namespace {

constexpr std::size_t most_announced = 8;  // of one thread
constexpr std::size_t most_pinned = 2;
// Room for a request of the greatest length, and all of the pool.
constexpr std::uint64_t least_quota = 64, largest_quota = 4096;
constexpr std::size_t quota_space = 2;

}  // namespace

void soak_worker::hint() {
  switch (random_.below(6)) {
    case 0:
    case 1:
      return announce();
    case 2:
      return pin();
    case 3:
      return set_quota();
    default:
      if (!open_.empty()) hint(open_[static_cast<std::size_t>(random_.below(open_.size()))]);
  }
  if (random_.chance(0.1)) weights();
}

void soak_worker::announce() {
  if (announced_.size() == most_announced || random_.chance(0.3)) {
    if (!announced_.empty()) announced_.erase(announced_.begin());  // the request was cancelled
    ++operations;
    return;
  }
  const auto space = static_cast<std::size_t>(random_.below(std::size(soak_spaces)));
  std::vector<token_id> t = prompt();
  result<announcement> a = call().announce(t, soak_spaces[space]);
  if (!a) return expect(a.error().code == errc::busy, "an announcement was refused");
  const auto n = static_cast<std::int64_t>(t.size());
  expect(a->held_tokens() <= n, "an announcement holds more than its prompt");
  announced_.push_back({std::move(*a), std::move(t), space});
}

void soak_worker::pin() {
  ++operations;
  if (pinned_.size() == most_pinned) {
    pinned_.erase(pinned_.begin());
    return;
  }
  const std::vector<token_id> t = prompt();
  const auto space = static_cast<std::size_t>(random_.below(std::size(soak_spaces)));
  result<pinned_prefix> p = call().pin_prefix(t, soak_spaces[space]);
  if (!p) return expect(p.error().code == errc::busy, "a prefix was not pinned");
  expect(p->held_tokens() <= static_cast<std::int64_t>(t.size()), "a pin holds too much");
  pinned_.push_back(std::move(*p));
}

void soak_worker::set_quota() {
  const std::uint64_t blocks =
      random_.chance(0.5) ? 0 : least_quota + random_.below(largest_quota - least_quota);
  expect(call().set_quota(soak_spaces[quota_space], static_cast<std::int64_t>(blocks)));
}

void soak_worker::hint(request& r) {
  const auto said = [this](const status& s) {
    expect(s.ok() || s.error().code == errc::busy, "a hint was refused");
  };
  const auto n = static_cast<std::uint64_t>(r.handle.tokens());
  switch (random_.below(4)) {
    case 0: {
      if (n == 0) return;
      const std::uint64_t first = random_.below(n);
      const std::uint64_t count = 1 + random_.below(n - first);
      return said(call(r).set_priority(static_cast<std::int64_t>(first),
                                       static_cast<std::int64_t>(count),
                                       static_cast<int>(random_.below(7)) - 3));
    }
    case 1:
      return said(call(r).set_ttl(0.001 + random_.uniform()));
    case 2:
      return said(call(r).expect_return(random_.uniform(), 0.001 + random_.uniform()));
    default:
      return said(call(r).ended());
  }
}

void soak_worker::weights() {
  result<std::vector<std::byte>> learnt = call().save_policy();
  if (!learnt) return shared_.violated(learnt.error().message);
  expect(call().load_policy(*learnt));
  if (learnt->empty()) return;
  (*learnt)[static_cast<std::size_t>(random_.below(learnt->size()))] ^= std::byte{4};
  ++faults;
  expect(!call().load_policy(*learnt), "damaged weights were taken");
}

}  // namespace radixkv::cli
