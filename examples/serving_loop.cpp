// A serving loop with radixkv, from a queue of requests to released sequences. Read this first.
//
// The engine here is a stand-in: its "forward pass" writes one number per token into KV memory, and
// its sampler knows the answer beforehand. Everything that a real engine would ask of radixkv is
// real.
#include <cstdio>
#include <cstring>
#include <deque>
#include <vector>

#include <radixkv/host_executor.h>
#include <radixkv/kv_cache.h>

using namespace radixkv;

struct request {
  const char* user;  // tenants share nothing: the namespace keeps them apart
  std::vector<token_id> prompt;
  std::int64_t answer_tokens;
  sequence kv{};  // its block table, once it is admitted
  std::int64_t generated = 0;
};

// A prompt: a system prompt that many requests share, then `own` tokens of this one.
std::vector<token_id> prompt_of(token_id own_id, std::int64_t system, std::int64_t own) {
  std::vector<token_id> tokens;
  for (token_id i = 0; i < system; ++i) tokens.push_back(i);
  for (std::int64_t i = 0; i < own; ++i) tokens.push_back(own_id);
  return tokens;
}

// Computes KV of the known tokens that have none yet. A real engine runs its kernels with the block
// table, and then says what they filled, just like this.
status forward(sequence& kv, host_executor& memory) {
  const std::uint32_t block_tokens = memory.layout().block_tokens;
  std::vector<token_id> tokens(static_cast<std::size_t>(kv.tokens()));
  if (status read = kv.read_tokens(0, tokens); !read) return read;
  for (std::int64_t t = kv.filled_tokens(); t < kv.tokens(); ++t) {
    const block_id block = kv.block_table()[static_cast<std::size_t>(t / block_tokens)];
    const auto bytes =
        memory.token_bytes(0, block, 0, static_cast<std::uint32_t>(t % block_tokens));
    std::memcpy(bytes.data(), &tokens[static_cast<std::size_t>(t)], sizeof(token_id));
  }
  return kv.mark_filled(kv.tokens());
}

int fail(const char* what, const error& e) {
  std::fprintf(stderr, "%s: %s\n", what, e.message.c_str());
  return 1;
}

int main() {
  // A small pool, so that requests have to wait and old prefixes have to go.
  result<kv_cache> cache = kv_cache::create({.blocks = 48, .block_tokens = 16});
  if (!cache) return fail("cache", cache.error());
  result<host_executor> memory =
      host_executor::create(layout_nhd({.blocks = 48, .block_tokens = 16, .head_bytes = 8}));
  if (!memory) return fail("memory", memory.error());

  std::deque<request> waiting;
  std::deque<request> running;
  for (token_id i = 0; i < 12; ++i) {
    waiting.push_back({i % 3 == 2 ? "tenant-b" : "tenant-a", prompt_of(1000 + i % 7, 150, 20), 8});
  }

  std::size_t served = 0;
  while (!waiting.empty() || !running.empty()) {
    step_plan step;  // bytes to move before this pass

    // Admit what fits. Running out of blocks is ordinary: the rest of the queue waits.
    while (!waiting.empty()) {
      request& r = waiting.front();
      result<sequence> opened = cache->open(r.prompt, r.user, step);
      if (!opened && opened.error().code == errc::out_of_blocks && !running.empty()) break;
      if (!opened) return fail("open", opened.error());
      r.kv = std::move(*opened);
      std::printf("%s: %lld of %zu prompt tokens cached\n", r.user,
                  static_cast<long long>(r.kv.cached_tokens()), r.prompt.size());
      running.push_back(std::move(r));
      waiting.pop_front();
    }

    // Run the copies that admission has planned, then the pass. What the pass filled is published
    // at once: a request with the same prefix need not wait until this one ends.
    if (status s = memory->run(step); !s) {
      cache->report_failure(step);
      return fail("plan", s.error());
    }
    for (request& r : running) {
      if (status s = forward(r.kv, *memory); !s) return fail("forward", s.error());
      if (auto published = r.kv.commit(); !published) return fail("commit", published.error());
    }

    // Sample a token for each, and make room for its KV in the next pass. This may plan copies,
    // too: they belong to the same queue of work, before the pass that writes.
    step_plan next;
    std::deque<request> still_running;
    for (request& r : running) {
      const token_id sampled = 5000 + static_cast<token_id>(r.generated);
      if (++r.generated == r.answer_tokens) {
        ++served;  // leaving the loop destroys the sequence: its blocks stay cached
        continue;
      }
      if (status s = r.kv.append({&sampled, 1}, next); !s) {
        if (s.error().code != errc::out_of_blocks) return fail("append", s.error());
        r.kv.release();  // preempted: it starts again later, and finds much of its work cached
        r.generated = 0;
        waiting.push_front(std::move(r));
        continue;
      }
      still_running.push_back(std::move(r));
    }
    if (status s = memory->run(next); !s) return fail("plan", s.error());
    running = std::move(still_running);
  }

  const cache_statistics s = cache->statistics();
  std::printf("%zu requests served, %.0f %% of prompt tokens from cache, %lld blocks evicted\n",
              served, 100 * s.hit_rate(), static_cast<long long>(s.evicted_blocks));
  return served == 12 && s.tokens_hit > 0 ? 0 : 1;
}
