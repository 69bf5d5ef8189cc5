#include "csrc/cli/trace_generator.h"

#include <algorithm>
#include <new>
#include <queue>
#include <string>
#include <utility>

#include "csrc/cli/random_source.h"

namespace radixkv::cli {
namespace {

constexpr std::uint32_t max_message_tokens = 32768;

struct session {
  std::uint32_t tenant = 0;
  std::vector<segment> history;       // system prompt, then messages and answers
  std::vector<std::size_t> messages;  // positions in history where a turn's message begins
};

// A session that wants to speak at a time; earlier first, then the one that was queued first.
struct event {
  double seconds = 0;
  std::uint64_t order = 0;
  std::size_t session = 0;

  bool operator<(const event& other) const noexcept {
    return std::pair(seconds, order) > std::pair(other.seconds, other.order);
  }
};

class generator {
 public:
  explicit generator(const generator_options& options) : options_(options), random_(options.seed) {
    trace_.source = "generated conversations (seed " + std::to_string(options.seed) + ")";
    trace_.name_spaces.clear();
    double sum = 0;
    for (std::uint32_t t = 0; t < options.tenants; ++t) {
      trace_.name_spaces.push_back("tenant-" + std::to_string(t));
      tenant_shares_.push_back(sum += 1.0 / (t + 1));
      for (std::uint32_t p = 0; p < options.system_prompts; ++p) {
        system_prompts_.push_back(message(options.system_prompt_tokens, 0.8));
      }
    }
  }

  trace run() {
    double arrival = 0;
    while (trace_.requests.size() < options_.requests) {
      while (events_.empty() || arrival <= events_.top().seconds) {
        start_session(arrival);
        arrival += random_.exponential(1.0 / options_.sessions_per_second);
      }
      const event now = events_.top();
      events_.pop();
      if (!speak(sessions_[now.session], now)) free_.push_back(now.session);
    }
    return std::move(trace_);
  }

 private:
  // A new segment with a length around `median`.
  segment message(double median, double sigma) {
    const double tokens =
        std::clamp(random_.log_normal(median, sigma), 4.0, static_cast<double>(max_message_tokens));
    return {next_id_++, static_cast<std::uint32_t>(tokens)};
  }
  segment user_message() {
    return random_.chance(options_.document_chance) ? message(options_.document_tokens, 0.9)
                                                    : message(options_.message_tokens, 1.0);
  }

  void start_session(double seconds) {
    std::size_t slot = sessions_.size();
    if (free_.empty()) {
      sessions_.emplace_back();
    } else {
      slot = free_.back();
      free_.pop_back();
    }
    const double at = random_.uniform() * tenant_shares_.back();
    const auto tenant = static_cast<std::uint32_t>(
        std::upper_bound(tenant_shares_.begin(), tenant_shares_.end() - 1, at) -
        tenant_shares_.begin());
    // The first system prompt of a tenant is the one that most of its sessions use.
    const std::uint64_t prompt =
        std::min(random_.below(options_.system_prompts), random_.below(options_.system_prompts));
    session& s = sessions_[slot];
    s.tenant = tenant;
    s.history = {system_prompts_[tenant * options_.system_prompts + prompt]};
    s.messages.clear();
    events_.push({seconds, order_++, slot});
  }

  // Goes back to an earlier message and changes it from some token on. The rest is forgotten.
  void fork(session& s) {
    const std::size_t turn = random_.below(s.messages.size());
    segment& edited = s.history[s.messages[turn]];
    s.history.resize(s.messages[turn] + 1);
    s.messages.resize(turn + 1);
    edited.tokens = 1 + static_cast<std::uint32_t>(random_.below(edited.tokens));
    s.history.push_back(message(options_.message_tokens, 1.0));
  }

  // One turn: a request is recorded. Returns false when the session is over.
  bool speak(session& s, const event& now) {
    if (!s.messages.empty() && random_.chance(options_.fork_chance)) {
      fork(s);
    } else {
      s.messages.push_back(s.history.size());
      s.history.push_back(user_message());
    }
    std::uint64_t tokens = 0;
    for (const segment& part : s.history) tokens += part.tokens;
    if (tokens > options_.max_prompt_tokens) return false;

    const segment answer = message(options_.answer_tokens, 0.9);
    trace_request request;
    request.seconds = now.seconds;
    request.prompt_tokens = static_cast<std::uint32_t>(tokens);
    request.output_tokens = answer.tokens;
    request.name_space = s.tenant;
    request.first_segment = trace_.segments.size();
    request.segments = static_cast<std::uint32_t>(s.history.size());
    trace_.segments.insert(trace_.segments.end(), s.history.begin(), s.history.end());
    trace_.requests.push_back(request);

    s.history.push_back(answer);
    if (!random_.chance(options_.next_turn_chance)) return false;
    events_.push(
        {now.seconds + 1 + random_.exponential(options_.think_seconds), order_++, now.session});
    return true;
  }

  generator_options options_;
  random_source random_;
  trace trace_;
  std::vector<double> tenant_shares_;  // cumulative
  std::vector<segment> system_prompts_;
  std::vector<session> sessions_;
  std::vector<std::size_t> free_;
  std::priority_queue<event> events_;
  std::uint64_t next_id_ = 1;
  std::uint64_t order_ = 0;
};

status check(const char* name, double value, double least, double most) {
  if (value >= least && value <= most) return {};
  const auto text = [](double v) {
    std::string s = std::to_string(v);
    s.erase(s.find_last_not_of('0') + 1);
    if (s.back() == '.') s.pop_back();
    return s;
  };
  return {errc::invalid_argument, "the generator's " + std::string(name) + " is " + text(value) +
                                      ", outside " + text(least) + " … " + text(most)};
}

status check(const generator_options& o) {
  const struct {
    const char* name;
    double value, least, most;
  } limits[] = {
      {"requests", static_cast<double>(o.requests), 1, 1e8},
      {"tenants", static_cast<double>(o.tenants), 1, 1e4},
      {"system_prompts", static_cast<double>(o.system_prompts), 1, 100},
      {"system_prompt_tokens", o.system_prompt_tokens, 1, max_message_tokens},
      {"message_tokens", o.message_tokens, 1, max_message_tokens},
      {"document_chance", o.document_chance, 0, 1},
      {"document_tokens", o.document_tokens, 1, max_message_tokens},
      {"answer_tokens", o.answer_tokens, 1, max_message_tokens},
      {"next_turn_chance", o.next_turn_chance, 0, 1},
      {"fork_chance", o.fork_chance, 0, 1},
      {"think_seconds", o.think_seconds, 0, 1e6},
      {"sessions_per_second", o.sessions_per_second, 1e-6, 1e6},
      {"max_prompt_tokens", static_cast<double>(o.max_prompt_tokens), 2.0 * max_message_tokens,
       1u << 30},
  };
  for (const auto& l : limits) {
    if (status s = check(l.name, l.value, l.least, l.most); !s) return s;
  }
  return {};
}

}  // namespace

result<trace> generate_trace(const generator_options& options) try {
  if (status s = check(options); !s) return s.error();
  return generator(options).run();
} catch (const std::bad_alloc&) {
  return {errc::out_of_memory,
          "no memory to generate " + std::to_string(options.requests) + " requests"};
}

}  // namespace radixkv::cli
