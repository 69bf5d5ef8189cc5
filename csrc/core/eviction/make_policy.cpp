#include <array>
#include <string>
#include <utility>

#include "csrc/core/eviction/fifo.h"
#include "csrc/core/eviction/lfu.h"
#include "csrc/core/eviction/lru.h"
#include "csrc/core/eviction/reuse_index.h"
#include "csrc/core/eviction/s3fifo.h"
#include "csrc/core/eviction/slru.h"
#include "radixkv/eviction_policy.h"

namespace radixkv {

namespace {

template <typename Policy>
std::unique_ptr<eviction_policy> make() {
  return std::make_unique<Policy>();
}

using maker = std::unique_ptr<eviction_policy> (*)();
constexpr std::array<std::pair<std::string_view, maker>, 6> policies{{
    {"lru", &make<detail::lru_policy>},
    {"fifo", &make<detail::fifo_policy>},
    {"lfu", &make<detail::lfu_policy>},
    {"slru", &make<detail::slru_policy>},
    {"reuse_index", &make<detail::reuse_index_policy>},
    {"s3fifo", &make<detail::s3fifo_policy>},
}};

}  // namespace

result<std::unique_ptr<eviction_policy>> make_policy(std::string_view name) {
  std::string known;
  for (const auto& [known_name, make_one] : policies) {
    if (name == known_name) return make_one();
    known += (known.empty() ? "" : ", ") + std::string(known_name);
  }
  return error{errc::not_found,
               "policy '" + std::string(name.substr(0, 64)) + "' is not one of: " + known};
}

}  // namespace radixkv
