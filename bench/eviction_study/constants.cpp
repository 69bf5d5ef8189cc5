#include "bench/eviction_study/constants.h"

#include <charconv>
#include <functional>
#include <utility>

namespace radixkv::study {

namespace {

using detail::reuse_index_options;
using accessor = std::function<void(reuse_index_options&, bool times, double)>;

template <typename Get>
accessor constant(Get get) {
  return [get](reuse_index_options& o, bool times, double value) {
    auto& x = get(o);
    x = static_cast<std::remove_reference_t<decltype(x)>>(times ? static_cast<double>(x) * value
                                                                : value);
  };
}

const std::vector<std::pair<std::string, accessor>>& constants() {
  using options = reuse_index_options;
  static const std::vector<std::pair<std::string, accessor>> all = {
      {"rate", constant([](options & o) -> auto& { return o.model.rate; })},
      {"group_rate", constant([](options & o) -> auto& { return o.model.group_rate; })},
      {"first_hazard", constant([](options & o) -> auto& { return o.model.first_hazard; })},
      {"most_tokens", constant([](options & o) -> auto& { return o.model.most_tokens; })},
      {"tail_tokens", constant([](options & o) -> auto& { return o.tail_tokens; })},
      {"chunk_tokens", constant([](options & o) -> auto& { return o.chunk_tokens; })},
      {"shared_children", constant([](options & o) -> auto& { return o.shared_children; })},
      {"ghost_capacities", constant([](options & o) -> auto& { return o.ghost_capacities; })},
      {"ghost_tokens_least", constant([](options & o) -> auto& { return o.ghost_tokens_least; })},
      {"history_bytes", constant([](options & o) -> auto& { return o.history_bytes_per_token; })},
      {"lateness", constant([](options & o) -> auto& { return o.lateness; })},
      {"longest_period", constant([](options & o) -> auto& { return o.longest_period; })},
      {"full_lessons", constant([](options & o) -> auto& { return o.full_lessons; })},
      {"least_quantum", constant([](options & o) -> auto& { return o.least_quantum; })},
      {"largest_quantum", constant([](options & o) -> auto& { return o.largest_quantum; })},
      {"tolerated_loss", constant([](options & o) -> auto& { return o.guard.tolerated_loss; })},
      {"doubt", constant([](options & o) -> auto& { return o.guard.doubt; })},
      {"memory", constant([](options & o) -> auto& { return o.guard.memory; })},
      {"caution", constant([](options & o) -> auto& { return o.guard.caution; })},
      {"little", constant([](options & o) -> auto& { return o.guard.little; })},
      {"margin", constant([](options & o) -> auto& { return o.guard.margin; })},
      {"least_promise", constant([](options & o) -> auto& { return o.guard.least_promise; })},
      {"full_promise", constant([](options & o) -> auto& { return o.guard.full_promise; })},
      {"most_debt", constant([](options & o) -> auto& { return o.guard.most_debt; })},
  };
  return all;
}

}  // namespace

std::vector<std::string> constant_names() {
  std::vector<std::string> names;
  for (const auto& c : constants()) names.push_back(c.first);
  return names;
}

status set_constant(reuse_index_options& options, const std::string& setting) {
  const std::size_t sign = setting.find_first_of("=*");
  double value = 0;
  const char* const end = setting.data() + setting.size();
  const auto [stopped, failed] =
      std::from_chars(setting.data() + (sign == std::string::npos ? 0 : sign + 1), end, value);
  if (sign == std::string::npos || failed != std::errc{} || stopped != end || !(value > 0))
    return {errc::invalid_argument, "'" + setting + "' is not NAME=VALUE or NAME*FACTOR"};
  const std::string name = setting.substr(0, sign);
  for (const auto& [known, set] : constants()) {
    if (known != name) continue;
    set(options, setting[sign] == '*', value);
    return {};
  }
  std::string known;
  for (const auto& c : constants()) known += (known.empty() ? "" : ", ") + c.first;
  return {errc::invalid_argument, "'" + name + "' is not one of: " + known};
}

}  // namespace radixkv::study
