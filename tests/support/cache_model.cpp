#include "tests/support/cache_model.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace radixkv::testing {

const char* const model_spaces[published_prefixes::spaces] = {
    "", "tenant", "another tenant, with a name longer than a small string"};

std::string model_violation(const char* file, int line, const char* what) {
  const char* slash = std::strrchr(file, '/');
  return std::string(slash ? slash + 1 : file) + ":" + std::to_string(line) +
         ": does not hold: " + what;
}

namespace {

std::uint64_t seed_of(std::string_view space) {
  return static_cast<std::uint64_t>(std::ranges::find(model_spaces, space) - model_spaces) + 1;
}

}  // namespace

cache_options cache_model::random_options(bool watched) {
  const chooser& below = below_;
  const bool tiny = size_ != model_size::mixed;
  cache_options o;
  o.block_tokens = 1u << below(tiny ? 3 : 6);
  o.blocks = (tiny ? 2 : 20) + below(tiny ? 120 : 200);
  o.min_prefix_tokens = below(3);
  o.logits_rows = static_cast<std::int32_t>(below(5));
  o.hash_bits = below(2) ? 64 : 8 + below(57);
  o.max_prefixes = below(4) == 0 ? 1 + below(6) : 0;
  if (below(8) == 0) o.max_sequences = 1 + below(6);
  o.max_announcements = 6;
  o.max_sequence_hints = 40;
  constexpr const char* policies[] = {"lru", "lru",  "lru",    "lru",         "lru",
                                      "lfu", "slru", "s3fifo", "reuse_index", "fifo"};
  o.policy = policies[below(10)];
  if (const char* policy = std::getenv("RADIXKV_TEST_POLICY")) o.policy = policy;
  o.clock = [ticks = 0.0]() mutable { return ticks += 0.01; };
  if (size_ == model_size::wide) {
    o.block_tokens = 4;  // so that few prompts are the same
    o.blocks += 600 + below(1280);
    o.max_sequence_hints = 1000;
  }
  if (!watched) return o;
  listener_ = std::make_shared<model_listener>(&seed_of);
  if (below(4) == 0) listener_->refuse_every(1 + below(10));
  o.listener = listener_;
  o.low_watermark = below(6) / 10.0;
  o.high_watermark = o.low_watermark + below(5) / 10.0;
  o.on_pressure = [this](const pressure_event& e) { pressure_ = e.level; };
  o.prefault = below(8) == 0;
  return o;
}

cache_model::cache_model(chooser below, model_size size, bool watched)
    : below_(std::move(below)),
      size_(size),
      options_(random_options(watched)),
      longest_prompt_(std::min(static_cast<std::size_t>(options_.blocks) * options_.block_tokens,
                               std::size_t{size == model_size::mixed ? 500u : 40u})),
      inject_(below_(2) == 0),
      cache_(kv_cache::create(options_).value()),
      memory_(options_, below_(size == model_size::mixed ? 2 : 4) == 0) {}

std::vector<token_id> cache_model::prompt() {
  std::vector<token_id> t;
  if (!history_.empty() && below_(4) != 0) {
    t = history_[below_(static_cast<std::uint32_t>(history_.size()))];
    if (below_(3) != 0) t.resize(below_(static_cast<std::uint32_t>(t.size()) + 1));
  }
  if (t.empty() || below_(3) != 0) {
    for (std::uint32_t n = 1 + below_(options_.block_tokens * 4); n > 0; --n) {
      const bool any = size_ == model_size::wide || below_(8) == 0;
      t.push_back(any ? below_(published_prefixes::alphabet) : below_(2));
    }
  }
  if (t.size() > longest_prompt_) t.resize(longest_prompt_);
  return t;
}

cache_model::open_sequence* cache_model::with_id(std::uint64_t id) {
  for (open_sequence& s : open_) {
    if (s.handle.id() == id) return &s;
  }
  return nullptr;
}

void cache_model::lengthen(open_sequence& s, std::span<const token_id> more) {
  std::uint64_t h = s.hashes.empty() ? s.space + 1 : s.hashes.back();
  for (const token_id t : more) {
    h = model_memory::fold(h, t);
    s.tokens.push_back(t);
    s.hashes.push_back(h);
  }
}

std::string cache_model::check(const open_sequence& s) {
  const sequence& q = s.handle;
  MODEL_CHECK(q.tokens() == static_cast<std::int64_t>(s.tokens.size()));
  MODEL_CHECK(q.committed_tokens() <= q.filled_tokens() && q.filled_tokens() <= q.tokens());
  MODEL_CHECK(q.tokens() <= q.capacity_tokens());
  read_.resize(s.tokens.size());
  MODEL_CHECK(q.read_tokens(0, read_).ok());
  MODEL_CHECK(read_ == s.tokens);
  if (s.failed) return {};
  const auto filled = static_cast<std::size_t>(q.filled_tokens());
  MODEL_CHECK(memory_.holds(q.block_table(), 0, std::span(s.hashes).first(filled)));
  counts_.checked_tokens += q.filled_tokens();
  if (q.cached_logits() != no_slot) {
    MODEL_CHECK(memory_.store_holds(q.cached_logits(), s.hashes.back()));
  }
  return {};
}

// True while published_ is exactly what is cached.
bool cache_model::exact() {
  exact_ = exact_ && cache_.statistics().evicted_blocks == evicted_;
  return exact_;
}

// Takes what is cached now for what should be, from where every later publication counts again.
void cache_model::resynchronise() {
  published_.clear();
  const status visited =
      call().for_each_prefix([&](std::string_view name, std::span<const token_id> tokens) {
        for (std::size_t space = 0; space < published_prefixes::spaces; ++space) {
          if (name == model_spaces[space]) published_.add(space, tokens);
        }
        return true;
      });
  evicted_ = cache_.statistics().evicted_blocks;
  exact_ = visited.ok();
}

std::string cache_model::check_figures() {
  const cache_statistics s = call().statistics();
  MODEL_CHECK(s.sequences == static_cast<std::int64_t>(open_.size()));
  MODEL_CHECK(s.blocks == options_.blocks &&
              s.blocks_free + s.blocks_retiring + s.blocks_used == s.blocks);
  MODEL_CHECK(s.blocks_cached <= s.blocks_used && s.blocks_shared <= s.blocks_used);
  MODEL_CHECK(s.cached_tokens <= s.blocks_cached * options_.block_tokens);
  MODEL_CHECK(s.cached_tokens >= s.blocks_cached);
  MODEL_CHECK(s.cached_prefixes <= s.nodes && s.logits_used <= options_.logits_rows);
  const std::vector<sequence_info> all = call().sequences().value();
  MODEL_CHECK(all.size() == open_.size());
  for (const sequence_info& i : all) {
    const open_sequence* known = with_id(i.id);
    MODEL_CHECK(known && known->handle.tokens() == i.tokens);
    MODEL_CHECK(static_cast<std::int64_t>(known->handle.block_table().size()) == i.blocks);
  }
  std::int64_t prefixes = 0;
  const auto count = [&](std::string_view, std::span<const token_id>) { return ++prefixes > 0; };
  MODEL_CHECK(call().for_each_prefix(count).ok());
  MODEL_CHECK(prefixes == s.cached_prefixes);
  MODEL_CHECK(call().dump(5)->empty() == (s.namespaces == 0));
  return listener_ ? check_watched(s) : std::string();
}

// What the listener and on_pressure were told is what there is.
std::string cache_model::check_watched(const cache_statistics& s) {
  MODEL_CALL(listener_->check(memory_));
  const auto below = [&](double mark) {
    return static_cast<double>(s.blocks_free) < mark * static_cast<double>(s.blocks);
  };
  MODEL_CHECK(pressure_ == (below(options_.low_watermark)    ? pressure::high
                            : below(options_.high_watermark) ? pressure::low
                                                             : pressure::none));
  return {};
}

std::string cache_model::check_contents() {
  for (const open_sequence& s : open_) MODEL_CALL(check(s));
  MODEL_CALL(check_pins());
  return check_figures();
}

std::string cache_model::step() {
  if (!exact_ && ++passed_ % 64 == 0) resynchronise();
  if (listener_ && below_(8) == 0) below_(2) == 0 ? listener_->publish() : listener_->retire();
  const std::uint32_t what = below_(20);
  if (what == 16) return hint();
  if (what < 8 || open_.empty()) return pass();
  if (what > 16) return hint(any());
  switch (what) {
    case 8:
      // A wide cache fills up.
      return size_ == model_size::wide && below_(16) != 0 ? match() : evict();
    case 9:
      return match();
    case 10:
      if (below_(4) == 0) return match_batch();
      if (below_(4) == 0) return misuse();
      return match();
    default:
      return change(any());
  }
}

std::string cache_model::finish() {
  open_.clear();
  cache_statistics s = cache_.statistics();
  MODEL_CHECK(s.sequences == 0 && s.blocks_used == s.blocks_cached);
  call().clear();
  s = cache_.statistics();
  MODEL_CHECK(given_up() == s.blocks && s.nodes == 0 && s.cached_tokens == 0);
  MODEL_CHECK(s.namespaces == 0 && s.logits_used == 0 && s.sequence_hints == 0);
  pins_.clear();
  announced_.clear();
  s = cache_.statistics();
  MODEL_CHECK(s.announcements == 0 && s.pinned_prefixes == 0);
  if (listener_) MODEL_CALL(finish_watched());
  return cache_.check_invariants();
}

// All that was dropped retires, and a request that needs every block is served.
std::string cache_model::finish_watched() {
  listener_->publish();
  listener_->retire();
  const std::vector<token_id> all(static_cast<std::size_t>(options_.blocks) *
                                  options_.block_tokens);
  step_plan plan;
  MODEL_CHECK(call().open(all, "", plan).ok());
  const cache_statistics s = cache_.statistics();
  MODEL_CHECK(s.blocks_free == s.blocks && listener_->dropped() == 0);
  return check_watched(s);
}

}  // namespace radixkv::testing
