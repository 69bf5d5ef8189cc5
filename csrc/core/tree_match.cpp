// Matching one prompt, or several in turn: who drives the cursors.
#include <algorithm>
#include <array>
#include <optional>

#include "csrc/core/match_cursor.h"
#include "csrc/core/streams.h"

namespace radixkv::detail {

bool radix_tree::match(tree_root root, std::span<const token_id> tokens, std::span<block_id> table,
                       tree_match& out) const {
  match_cursor cursor(*this, root, tokens, table);
  // The prompt may be as cold as the tree: its first lines come while the first node is found,
  // after what the step itself has asked for.
  constexpr std::size_t line_tokens = 64 / sizeof(token_id);
  const std::size_t lines =
      std::min<std::size_t>(stream_fetch.lines_in_all, tokens.size() / line_tokens);
  std::size_t fetched = 0;
  match_cursor::outcome o = cursor.step();
  while (o == match_cursor::outcome::more) {
    const std::size_t more = std::min<std::size_t>(lines - fetched, stream_fetch.lines_a_step);
    fetch_ahead(reinterpret_cast<const std::uint32_t*>(tokens.data()) + fetched * line_tokens, more,
                line_tokens);
    fetched += more;
    o = cursor.step();
  }
  if (o == match_cursor::outcome::conflict) return false;
  out = cursor.match();
  return true;
}

// Group prefetching (Chen, Ailamaki, Gibbons and Mowry, ICDE 2004): while one prompt's memory is on
// its way the others go on.
void radix_tree::match_batch(std::span<const tree_root> roots,
                             std::span<const std::span<const token_id>> tokens,
                             std::span<const std::span<block_id>> tables, std::span<tree_match> out,
                             std::span<bool> ok) const {
  constexpr std::size_t lanes = 16;
  std::array<std::optional<match_cursor>, lanes> lane;
  std::array<std::size_t, lanes> index{};  // which prompt a lane works on
  std::array<std::size_t, lanes> active{};
  std::size_t next = 0;
  std::size_t running = 0;
  const auto start = [&](std::size_t l) {
    lane[l].emplace(*this, roots[next], tokens[next],
                    tables.empty() ? std::span<block_id>{} : tables[next]);
    index[l] = next++;
  };
  for (; running < lanes && next < out.size(); ++running) {
    start(running);
    active[running] = running;
  }
  while (running > 0) {
    for (std::size_t i = 0; i < running;) {
      const std::size_t l = active[i];
      const match_cursor::outcome o = lane[l]->step();
      if (o == match_cursor::outcome::more) {
        ++i;
        continue;
      }
      ok[index[l]] = o == match_cursor::outcome::found;
      out[index[l]] = lane[l]->match();
      if (next < out.size()) {
        start(l);
        ++i;
      } else {
        active[i] = active[--running];
      }
    }
  }
}

}  // namespace radixkv::detail
