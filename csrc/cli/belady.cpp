// Between two requests, a cached block waits for exactly one: the next that contains it. All blocks
// that wait for request r lie on r's path, one behind the other, so they are one interval of
// depths. The cache's whole state is thus one interval per future request.
//
// 1. waiting[r] = [begin, end): the cached blocks whose next use is r. What is cached of r's path
//    is contiguous from its root, and what of it waits for an earlier request lies before `begin`.
// 2. Σ (end − begin) = kept ≤ capacity.
#include "csrc/cli/belady.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <vector>

namespace radixkv::cli {
namespace {

constexpr std::uint32_t never = 0xffffffffu;

// Tokens [0, depth) of a request are next used by request `next`, from where the last use ended.
struct next_use {
  std::uint64_t depth;
  std::uint32_t next;
};

// A tree of the requests seen so far, edges labelled with pieces of segments. Requests are added
// last to first, so that a node knows the next request through it.
class future_tree {
 public:
  explicit future_tree(const trace& source) : source_(source) { nodes_.push_back({}); }

  // The next uses of request r's path, by depth, and r added to the tree.
  [[nodiscard]] std::vector<next_use> add(std::uint32_t r);

 private:
  // A piece of a segment's endless sequence.
  struct piece {
    std::uint64_t id;
    std::uint32_t begin, end;
  };
  struct node {
    std::vector<piece> pieces;
    std::uint64_t tokens = 0;
    std::uint32_t next = never;
  };
  struct child_key {
    std::uint32_t parent, begin;
    std::uint64_t id;
    friend bool operator==(const child_key&, const child_key&) = default;
  };
  struct child_hash {
    std::size_t operator()(const child_key& k) const noexcept {
      std::uint64_t x = (std::uint64_t{k.parent} << 32 | k.begin) * 0x9e3779b97f4a7c15u ^ k.id;
      x = (x ^ (x >> 31)) * 0xd6e8feb86659fd93u;
      return x ^ (x >> 32);
    }
  };
  [[nodiscard]] static std::vector<piece> rest_of(const std::vector<piece>& pieces, std::size_t i,
                                                  std::uint32_t offset);
  void split(std::uint32_t n, std::size_t i, std::uint32_t offset, std::uint32_t parent);

  const trace& source_;
  std::vector<node> nodes_;
  std::unordered_map<child_key, std::uint32_t, child_hash> children_;
};

std::vector<future_tree::piece> future_tree::rest_of(const std::vector<piece>& pieces,
                                                     std::size_t i, std::uint32_t offset) {
  std::vector<piece> rest(pieces.begin() + static_cast<std::ptrdiff_t>(i), pieces.end());
  if (offset > 0) rest[0].begin += offset;
  return rest;
}

// Cuts n before piece i, or inside of it: its head becomes a node between it and its parent.
void future_tree::split(std::uint32_t n, std::size_t i, std::uint32_t offset,
                        std::uint32_t parent) {
  const auto upper = static_cast<std::uint32_t>(nodes_.size());
  node head;
  node& lower = nodes_[n];
  head.pieces.assign(lower.pieces.begin(), lower.pieces.begin() + static_cast<std::ptrdiff_t>(i));
  if (offset > 0) {
    head.pieces.push_back(lower.pieces[i]);
    head.pieces.back().end = head.pieces.back().begin + offset;
  }
  for (const piece& p : head.pieces) head.tokens += p.end - p.begin;
  head.next = lower.next;
  children_[{parent, head.pieces[0].begin, head.pieces[0].id}] = upper;
  lower.pieces = rest_of(lower.pieces, i, offset);
  lower.tokens -= head.tokens;
  children_[{upper, lower.pieces[0].begin, lower.pieces[0].id}] = n;
  nodes_.push_back(std::move(head));
}

std::vector<next_use> future_tree::add(std::uint32_t r) {
  std::vector<piece> path;
  for (const segment& s : source_.segments_of(source_.requests[r])) {
    // Segments of one id in a row are not one piece: each begins at the id's first token.
    if (s.tokens > 0) path.push_back({s.id, 0, s.tokens});
  }
  std::vector<next_use> uses;
  std::uint64_t depth = 0;
  std::uint32_t at = 0;
  std::size_t i = 0;           // piece of the path
  std::uint32_t consumed = 0;  // of that piece
  while (i < path.size()) {
    const auto found = children_.find({at, path[i].begin + consumed, path[i].id});
    if (found == children_.end()) break;
    const std::uint32_t child = found->second;
    // As far as pieces agree.
    std::size_t j = 0;
    std::uint32_t offset = 0;
    const std::vector<piece>& there = nodes_[child].pieces;
    while (j < there.size() && i < path.size()) {
      const piece& a = there[j];
      const piece& b = path[i];
      if (a.id != b.id || a.begin + offset != b.begin + consumed) break;
      const std::uint32_t same = std::min(a.end - a.begin - offset, b.end - b.begin - consumed);
      depth += same;
      offset += same;
      consumed += same;
      if (offset == a.end - a.begin) ++j, offset = 0;
      if (consumed == b.end - b.begin) ++i, consumed = 0;
      if (offset != 0) break;  // the path's piece is over and goes on otherwise, or not at all
    }
    const bool whole = j == there.size();
    if (!whole) split(child, j, offset, at);
    const std::uint32_t passed = whole ? child : static_cast<std::uint32_t>(nodes_.size() - 1);
    if (!uses.empty() && uses.back().next == nodes_[passed].next) {
      uses.back().depth = depth;
    } else {
      uses.push_back({depth, nodes_[passed].next});
    }
    nodes_[passed].next = r;
    at = passed;
    if (!whole) break;
  }
  if (i < path.size()) {
    node leaf;
    leaf.pieces = rest_of(path, i, consumed);
    for (const piece& p : leaf.pieces) leaf.tokens += p.end - p.begin;
    leaf.next = r;
    children_[{at, leaf.pieces[0].begin, leaf.pieces[0].id}] =
        static_cast<std::uint32_t>(nodes_.size());
    nodes_.push_back(std::move(leaf));
  }
  return uses;
}

struct interval {
  std::uint64_t begin = 0, end = 0;
};

}  // namespace

belady_result belady(const trace& source, std::int64_t capacity_blocks,
                     std::uint32_t block_tokens) {
  const auto requests = static_cast<std::uint32_t>(source.requests.size());
  std::vector<std::vector<next_use>> uses(requests);
  {
    future_tree tree(source);
    for (std::uint32_t r = requests; r-- > 0;) uses[r] = tree.add(r);
  }
  const auto blocks_of = [&](std::uint64_t tokens) {
    return (tokens + block_tokens - 1) / block_tokens;
  };
  belady_result result;
  std::vector<interval> waiting(requests);
  std::set<std::uint32_t> nonempty;
  std::uint64_t kept = 0;
  const auto capacity = static_cast<std::uint64_t>(std::max<std::int64_t>(0, capacity_blocks));
  for (std::uint32_t t = 0; t < requests; ++t) {
    const std::uint64_t tokens = source.requests[t].prompt_tokens;
    result.blocks += blocks_of(tokens);
    // Everything cached of its path waits for it by now.
    const std::uint64_t hits = waiting[t].end;
    result.hit_blocks += hits;
    result.hit_tokens += std::min(tokens, hits * block_tokens);
    kept -= waiting[t].end - waiting[t].begin;
    nonempty.erase(t);
    // Its blocks, by who needs them next.
    std::uint64_t from = 0;
    for (const next_use& use : uses[t]) {
      // Whole blocks that agree; the last, partial one of a prompt that agrees as a whole.
      const std::uint64_t theirs = use.next == never ? 0 : source.requests[use.next].prompt_tokens;
      const std::uint64_t to =
          use.next != never && use.depth >= theirs ? blocks_of(theirs) : use.depth / block_tokens;
      if (use.next == never || to <= from) continue;
      interval& w = waiting[use.next];
      const std::uint64_t end = std::max(w.end, to);
      kept += end - from - (w.end - w.begin);
      w = {from, end};
      nonempty.insert(use.next);
      from = to;
    }
    while (kept > capacity) {
      const std::uint32_t last = *nonempty.rbegin();
      interval& w = waiting[last];
      const std::uint64_t gone = std::min(kept - capacity, w.end - w.begin);
      w.end -= gone;
      kept -= gone;
      result.evicted_blocks += gone;
      if (w.end == w.begin) {
        w = {};
        nonempty.erase(last);
      }
    }
  }
  return result;
}

}  // namespace radixkv::cli
