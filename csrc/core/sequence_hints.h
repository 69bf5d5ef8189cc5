// What a caller said about a sequence, until it is released: its marks lie nowhere until then.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/core/eviction/mark_table.h"

namespace radixkv::detail {

struct sequence_hints {
  struct range {
    std::int64_t first = 0;  // tokens
    std::int64_t n = 0;
    mark_id mark = no_mark;  // its rank is the priority
    bool lets_go = false;    // priority < 0
  };
  std::vector<range> ranges;
  mark_id time_to_live = no_mark;
  double ttl_seconds = 0;
  // The latest of expect_return and ended.
  mark_id outlook = no_mark;
  bool ended = false;
};

}  // namespace radixkv::detail
