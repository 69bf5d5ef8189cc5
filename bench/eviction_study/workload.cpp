#include "bench/eviction_study/workload.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

namespace radixkv::study {

result<workload> read_trace(const std::string& file) {
  std::ifstream in(file);
  if (!in) return error{errc::io, "cannot read " + file};
  workload w;
  w.name = "trace";
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    const auto j = nlohmann::json::parse(line, nullptr, false);
    if (!j.is_object() || !j.contains("hash_ids") || !j["hash_ids"].is_array())
      return error{errc::invalid_argument, file + ":" + std::to_string(number) + ": no hash_ids"};
    study_request r;
    r.seconds = j.value("timestamp", 0.0) / 1000;
    r.prompt_tokens = j.value("input_length", 0u);
    r.output_tokens = j.value("output_length", 0u);
    r.first_id = static_cast<std::uint32_t>(w.ids.size());
    for (const auto& id : j["hash_ids"]) w.ids.push_back(id.get<std::uint32_t>());
    r.ids = static_cast<std::uint32_t>(w.ids.size()) - r.first_id;
    if (r.ids == 0 || (r.prompt_tokens + id_tokens - 1) / id_tokens != r.ids)
      return error{errc::invalid_argument, file + ":" + std::to_string(number) + ": " +
                                               std::to_string(r.ids) + " hash_ids for " +
                                               std::to_string(r.prompt_tokens) + " tokens"};
    w.requests.push_back(r);
  }
  return w;
}

namespace {

// Builds a workload. A conversation is a growing list of ids; sharing a prefix is copying ids.
class builder {
 public:
  builder(std::string name, std::uint64_t seed) : random(seed) { made.name = std::move(name); }

  using conversation = std::vector<std::uint32_t>;

  void grow(conversation& c, std::uint32_t ids) {
    while (ids-- > 0) c.push_back(next_id_++);
  }
  void request(const conversation& c, std::uint32_t output) {
    study_request r;
    now += uniform(0.05, 0.55);
    r.seconds = now;
    r.ids = static_cast<std::uint32_t>(c.size());
    r.first_id = static_cast<std::uint32_t>(made.ids.size());
    r.prompt_tokens = r.ids * id_tokens;
    r.output_tokens = output;
    made.ids.insert(made.ids.end(), c.begin(), c.end());
    made.requests.push_back(r);
  }
  [[nodiscard]] std::uint32_t number(std::uint32_t least, std::uint32_t most) {
    return std::uniform_int_distribution<std::uint32_t>(least, most)(random);
  }
  [[nodiscard]] double uniform(double least, double most) {
    return std::uniform_real_distribution<double>(least, most)(random);
  }
  // 0 … n-1 with probability ∝ 1/(i+1)^s.
  [[nodiscard]] std::uint32_t zipf(std::uint32_t n, double s) {
    auto& sums = zipf_[{n, s}];
    if (sums.empty()) {
      double sum = 0;
      for (std::uint32_t i = 0; i < n; ++i) sums.push_back(sum += std::pow(i + 1.0, -s));
    }
    const double x = uniform(0, sums.back());
    return static_cast<std::uint32_t>(std::lower_bound(sums.begin(), sums.end(), x) - sums.begin());
  }
  [[nodiscard]] std::size_t size() const { return made.requests.size(); }

  workload made;
  std::mt19937_64 random;
  double now = 0;

 private:
  std::uint32_t next_id_ = 0;
  std::map<std::pair<std::uint32_t, double>, std::vector<double>> zipf_;
};

using conversation = builder::conversation;

// The same documents in turn, over and over, more than fit.
void loop(builder& b, std::uint32_t n, std::uint32_t documents, std::uint32_t ids) {
  std::vector<conversation> all(documents);
  for (auto& c : all) b.grow(c, ids);
  for (std::uint32_t i = 0; i < n; ++i) b.request(all[i % documents], 64);
}

// Prompts that nobody repeats, in between some that are repeated often.
void scan(builder& b, std::uint32_t n, double share) {
  std::vector<conversation> hot(60);
  for (auto& c : hot) b.grow(c, b.number(5, 30));
  for (std::uint32_t i = 0; i < n; ++i) {
    if (b.uniform(0, 1) < share) {
      conversation once;
      b.grow(once, b.number(10, 60));
      b.request(once, b.number(1, 700));
    } else {
      b.request(hot[b.number(0, 59)], b.number(1, 300));
    }
  }
}

// Agents with a long shared prompt of tools; each loops, its context growing by each tool's answer.
void agents(builder& b, std::uint32_t n, std::uint32_t tools, std::uint32_t open) {
  std::vector<conversation> prompts(tools);
  for (auto& c : prompts) b.grow(c, b.number(12, 40));
  std::vector<std::pair<conversation, std::uint32_t>> running;
  for (std::uint32_t i = 0; i < n; ++i) {
    while (running.size() < open)
      running.emplace_back(prompts[b.zipf(tools, 1.0)], b.number(2, 30));
    const std::uint32_t k = b.number(0, static_cast<std::uint32_t>(running.size()) - 1);
    auto& [context, left] = running[k];
    b.grow(context, b.number(1, 4));
    b.request(context, b.number(10, 200));
    if (--left == 0) {
      running[k] = std::move(running.back());
      running.pop_back();
    }
  }
}

// Chat: turns come after a pause; a conversation goes on with probability `stay`.
void chat(builder& b, std::uint32_t n, double stay, std::uint32_t pause) {
  std::vector<conversation> systems(8);
  for (auto& c : systems) b.grow(c, b.number(1, 6));
  std::multimap<std::size_t, conversation> waiting;  // by the request at which it returns
  for (std::uint32_t i = 0; i < n; ++i) {
    conversation c;
    if (!waiting.empty() && waiting.begin()->first <= b.size()) {
      c = std::move(waiting.begin()->second);
      waiting.erase(waiting.begin());
    } else {
      c = systems[b.zipf(8, 1.0)];
    }
    b.grow(c, b.number(1, 12));
    b.request(c, b.number(1, 600));
    if (b.uniform(0, 1) < stay && c.size() < 250)
      waiting.emplace(
          b.size() + 1 + static_cast<std::size_t>(-std::log(b.uniform(1e-9, 1)) * pause),
          std::move(c));
  }
}

// Independent documents of unequal popularity.
void zipf(builder& b, std::uint32_t n, std::uint32_t documents, double s) {
  std::vector<conversation> all(documents);
  for (auto& c : all) b.grow(c, b.number(2, 40));
  for (std::uint32_t i = 0; i < n; ++i) b.request(all[b.zipf(documents, s)], b.number(1, 500));
}

// A tree of prompts: few stems, branches, leaves, each level chosen by popularity.
void stems(builder& b, std::uint32_t n) {
  std::map<std::uint32_t, conversation> level1, level2;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t s = b.zipf(12, 1.0), t = s * 100 + b.zipf(40, 0.9);
    if (level1[s].empty()) b.grow(level1[s], b.number(4, 16));
    if (level2[t].empty()) {
      level2[t] = level1[s];
      b.grow(level2[t], b.number(2, 20));
    }
    conversation c = level2[t];
    b.grow(c, b.number(1, 10));
    b.request(c, b.number(1, 400));
  }
}

// Two kinds of documents, told apart by what they generate. One kind returns once, after `pause`
// requests, the other never; every `phase` requests they change places, just when that is learnt.
void turncoat(builder& b, std::uint32_t n, std::uint32_t phase, std::uint32_t pause) {
  std::multimap<std::size_t, std::pair<conversation, std::uint32_t>> waiting;  // by return
  for (std::uint32_t i = 0; i < n; ++i) {
    if (!waiting.empty() && waiting.begin()->first <= b.size()) {
      b.request(waiting.begin()->second.first, waiting.begin()->second.second);
      waiting.erase(waiting.begin());
      continue;
    }
    conversation c;
    b.grow(c, b.number(8, 24));
    const std::uint32_t kind = b.number(0, 1);
    const std::uint32_t output = kind == 0 ? 8 : 700;
    b.request(c, output);
    if (kind == i / phase % 2) waiting.emplace(b.size() + pause, std::pair(std::move(c), output));
  }
}

using generator = std::function<void(builder&, std::uint32_t)>;

const std::vector<std::pair<std::string, generator>>& generators() {
  static const std::vector<std::pair<std::string, generator>> all = {
      {"loop", [](builder& b, std::uint32_t n) { loop(b, n, 300, 20); }},
      {"loop_small", [](builder& b, std::uint32_t n) { loop(b, n, 40, 20); }},
      {"loop_beyond", [](builder& b, std::uint32_t n) { loop(b, n, 52, 20); }},
      {"scan", [](builder& b, std::uint32_t n) { scan(b, n, 0.5); }},
      {"scan_heavy", [](builder& b, std::uint32_t n) { scan(b, n, 0.9); }},
      {"agents", [](builder& b, std::uint32_t n) { agents(b, n, 10, 60); }},
      {"agents_many", [](builder& b, std::uint32_t n) { agents(b, n, 60, 400); }},
      {"chat", [](builder& b, std::uint32_t n) { chat(b, n, 0.6, 200); }},
      {"chat_quick", [](builder& b, std::uint32_t n) { chat(b, n, 0.8, 30); }},
      {"chat_slow", [](builder& b, std::uint32_t n) { chat(b, n, 0.5, 1500); }},
      {"zipf", [](builder& b, std::uint32_t n) { zipf(b, n, 2000, 0.9); }},
      {"zipf_flat", [](builder& b, std::uint32_t n) { zipf(b, n, 2000, 0.5); }},
      {"stems", [](builder& b, std::uint32_t n) { stems(b, n); }},
      {"turncoat_quick", [](builder& b, std::uint32_t n) { turncoat(b, n, 300, 20); }},
      {"turncoat", [](builder& b, std::uint32_t n) { turncoat(b, n, 1000, 50); }},
      {"turncoat_slow", [](builder& b, std::uint32_t n) { turncoat(b, n, 1500, 100); }},
      {"change_chat_to_agents",
       [](builder& b, std::uint32_t n) {
         chat(b, n / 2, 0.6, 200);
         agents(b, n - n / 2, 10, 60);
       }},
      {"change_zipf_to_scan",
       [](builder& b, std::uint32_t n) {
         zipf(b, n / 2, 1000, 0.9);
         scan(b, n - n / 2, 0.7);
       }},
      {"change_loop_to_chat",
       [](builder& b, std::uint32_t n) {
         loop(b, n / 2, 100, 20);
         chat(b, n - n / 2, 0.7, 100);
       }},
      {"change_popularity",
       [](builder& b, std::uint32_t n) {
         zipf(b, n / 2, 1000, 1.0);
         zipf(b, n - n / 2, 1000, 1.0);
       }},
  };
  return all;
}

}  // namespace

std::vector<std::string> generated_workloads() {
  std::vector<std::string> names;
  for (const auto& g : generators()) names.push_back(g.first);
  return names;
}

workload generate(const std::string& name, std::uint32_t requests, std::uint64_t seed) {
  builder b(name, seed);
  for (const auto& [known, make] : generators())
    if (known == name) make(b, requests);
  return std::move(b.made);
}

}  // namespace radixkv::study
