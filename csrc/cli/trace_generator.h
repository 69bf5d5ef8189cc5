// Generates the workload that `radixkv replay` runs when no trace is named: conversations of many
// turns, as a chat service with several tenants sees them.
//
// Sessions arrive as a Poisson process. Each belongs to a tenant (a namespace; chosen by Zipf's
// law) and begins with one of that tenant's few system prompts, which all its sessions share. The
// prompt of a turn is the whole conversation so far, so it repeats the turn before and that turn's
// answer, and adds a message: mostly short, now and then a pasted document. The user thinks
// (exponentially distributed time), and the conversation goes on with a fixed probability. Some
// turns fork: the user edits an earlier message, keeping its beginning, so that two prompts diverge
// inside a block.
//
// Equal options give equal traces, on every machine.
#pragma once

#include <cstddef>
#include <cstdint>

#include "csrc/cli/trace.h"
#include "radixkv/result.h"

namespace radixkv::cli {

struct generator_options {
  std::uint64_t seed = 1;
  std::size_t requests = 4000;

  std::uint32_t tenants = 8;
  std::uint32_t system_prompts = 3;    // per tenant
  double system_prompt_tokens = 1200;  // median; log-normal, as all lengths are
  double message_tokens = 80;          // median
  double document_chance = 0.15;       // that a message is a document
  double document_tokens = 4000;       // median
  double answer_tokens = 250;          // median
  double next_turn_chance = 0.78;      // mean turns: 1 / (1 − chance)
  double fork_chance = 0.12;           // that a turn edits an earlier message
  double think_seconds = 45;           // mean
  double sessions_per_second = 0.8;
  std::uint32_t max_prompt_tokens = 65536;  // a conversation that would grow beyond it ends
};

// Errors: invalid_argument naming the option, its value and its limit; out_of_memory.
[[nodiscard]] result<trace> generate_trace(const generator_options& options);

}  // namespace radixkv::cli
