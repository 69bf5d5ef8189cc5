// Two blocks are alike if one's tokens begin the other's, from the root on. A hit on block d of
// request r needs, all the time since the last request whose block d is like r's, one block of the
// cache to itself: whatever served an earlier request meanwhile and serves r, too, is like both. So
// every possible hit is an interval of time that takes one block, and the most of them that fit are
// found by giving up, whenever there are too many, the one that ends last (the k-colouring of
// intervals; Carlisle and Lloyd, 1995).
//
// 1. waiting[r] = [begin, end): the blocks of r's path that are kept for r. Those further down have
//    waited for longer, and are given up first.
// 2. Σ (end − begin) = kept ≤ capacity.
#include "csrc/cli/belady.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <vector>

namespace radixkv::cli {
namespace {

using request_index = std::int64_t;
constexpr request_index nobody = -1;

// Tokens [0, depth) of a request, beyond the previous one's depth, were used before.
struct earlier_use {
  std::uint64_t depth;
  request_index last;   // the latest request that has all of them
  request_index ended;  // the latest request whose prompt ended there, or nobody
};

// A tree of the requests seen so far below a root for each namespace, edges labelled with pieces of
// segments. Requests are added in order.
class past_tree {
 public:
  explicit past_tree(const trace& source)
      : source_(source), nodes_(std::max<std::size_t>(1, source.name_spaces.size())) {}

  // The earlier uses of request r's path, by depth, and r added to the tree.
  [[nodiscard]] std::vector<earlier_use> add(std::uint32_t r);

 private:
  // A piece of a segment's endless sequence.
  struct piece {
    std::uint64_t id;
    std::uint32_t begin, end;
  };
  struct node {
    std::vector<piece> pieces;
    std::uint64_t tokens = 0;
    request_index last = nobody;   // through it
    request_index ended = nobody;  // at its end
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

std::vector<past_tree::piece> past_tree::rest_of(const std::vector<piece>& pieces, std::size_t i,
                                                 std::uint32_t offset) {
  std::vector<piece> rest(pieces.begin() + static_cast<std::ptrdiff_t>(i), pieces.end());
  if (offset > 0) rest[0].begin += offset;
  return rest;
}

// Cuts n before piece i, or inside of it: its head becomes a node between it and its parent.
void past_tree::split(std::uint32_t n, std::size_t i, std::uint32_t offset, std::uint32_t parent) {
  const auto upper = static_cast<std::uint32_t>(nodes_.size());
  node head;
  node& lower = nodes_[n];
  head.pieces.assign(lower.pieces.begin(), lower.pieces.begin() + static_cast<std::ptrdiff_t>(i));
  if (offset > 0) {
    head.pieces.push_back(lower.pieces[i]);
    head.pieces.back().end = head.pieces.back().begin + offset;
  }
  for (const piece& p : head.pieces) head.tokens += p.end - p.begin;
  head.last = lower.last;
  children_[{parent, head.pieces[0].begin, head.pieces[0].id}] = upper;
  lower.pieces = rest_of(lower.pieces, i, offset);
  lower.tokens -= head.tokens;
  children_[{upper, lower.pieces[0].begin, lower.pieces[0].id}] = n;
  nodes_.push_back(std::move(head));
}

std::vector<earlier_use> past_tree::add(std::uint32_t r) {
  std::vector<piece> path;
  for (const segment& s : source_.segments_of(source_.requests[r])) {
    // Segments of one id in a row are not one piece: each begins at the id's first token.
    if (s.tokens > 0) path.push_back({s.id, 0, s.tokens});
  }
  std::vector<earlier_use> uses;
  std::uint64_t depth = 0;
  std::uint32_t at = source_.requests[r].name_space;
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
    uses.push_back({depth, nodes_[passed].last, nodes_[passed].ended});
    nodes_[passed].last = r;
    at = passed;
    if (!whole) break;
  }
  if (i < path.size()) {
    node leaf;
    leaf.pieces = rest_of(path, i, consumed);
    for (const piece& p : leaf.pieces) leaf.tokens += p.end - p.begin;
    leaf.last = r;
    const auto added = static_cast<std::uint32_t>(nodes_.size());
    children_[{at, leaf.pieces[0].begin, leaf.pieces[0].id}] = added;
    nodes_.push_back(std::move(leaf));
    at = added;
  }
  nodes_[at].ended = r;
  return uses;
}

// Blocks [begin, end) of request r, which a hit needs since the same earlier request.
struct wait {
  std::uint32_t r;
  std::uint64_t begin, end;
};

struct interval {
  std::uint64_t begin = 0, end = 0;
};

// Adds the waits of request r, whose earlier uses are given, to those that begin at each request.
class wait_finder {
 public:
  wait_finder(std::vector<std::vector<wait>>& starts, std::uint32_t block_tokens,
              std::uint32_t min_prefix_tokens)
      : starts_(starts), size_(block_tokens), min_prefix_tokens_(min_prefix_tokens) {}

  void add(std::uint32_t r, std::uint64_t tokens, const std::vector<earlier_use>& uses) {
    if (uses.empty()) return;
    const std::uint64_t covered = uses.back().depth;
    // Whole blocks that were there; the last, partial one, too, where all of the prompt was.
    const std::uint64_t blocks = covered == tokens ? (tokens + size_ - 1) / size_ : covered / size_;
    if (std::min(tokens, blocks * size_) < min_prefix_tokens_) return;  // a miss, whoever evicts
    std::size_t k = 0;
    for (std::uint64_t d = 0; d < blocks;) {
      const std::uint64_t end = std::min((d + 1) * size_, tokens);
      while (uses[k].depth <= d * size_) ++k;
      // Prompts that ended inside the block have been served by what is like it.
      request_index ended = nobody;
      for (; uses[k].depth < end; ++k) ended = std::max(ended, uses[k].ended);
      const earlier_use& use = uses[k];
      const std::uint64_t to = use.depth == tokens ? blocks : std::min(blocks, use.depth / size_);
      if (ended > use.last) {
        append(r, d, d + 1, ended);
        append(r, d + 1, to, use.last);
      } else {
        append(r, d, to, use.last);
      }
      d = to;
    }
  }

 private:
  void append(std::uint32_t r, std::uint64_t begin, std::uint64_t end, request_index since) {
    if (begin == end) return;
    std::vector<wait>& from = starts_[static_cast<std::size_t>(since)];
    if (!from.empty() && from.back().r == r) {
      from.back().end = end;
    } else {
      from.push_back({r, begin, end});
    }
  }

  std::vector<std::vector<wait>>& starts_;
  std::uint64_t size_, min_prefix_tokens_;
};

}  // namespace

belady_result belady(const trace& source, std::int64_t capacity_blocks, std::uint32_t block_tokens,
                     std::uint32_t min_prefix_tokens) {
  const auto requests = static_cast<std::uint32_t>(source.requests.size());
  std::vector<std::vector<wait>> starts(requests);
  {
    past_tree tree(source);
    wait_finder waits(starts, block_tokens, min_prefix_tokens);
    for (std::uint32_t r = 0; r < requests; ++r) {
      waits.add(r, source.requests[r].prompt_tokens, tree.add(r));
    }
  }
  belady_result result;
  std::vector<interval> waiting(requests);
  std::set<std::uint32_t> nonempty;
  std::uint64_t kept = 0;
  const auto capacity = static_cast<std::uint64_t>(std::max<std::int64_t>(0, capacity_blocks));
  for (std::uint32_t t = 0; t < requests; ++t) {
    const std::uint64_t tokens = source.requests[t].prompt_tokens;
    result.blocks += (tokens + block_tokens - 1) / block_tokens;
    // Everything kept for it is there by now, from its first block on.
    const std::uint64_t hits = waiting[t].end;
    result.hit_blocks += hits;
    result.hit_tokens += std::min(tokens - 1, hits * block_tokens);
    kept -= hits;
    nonempty.erase(t);
    for (const wait& starting : starts[t]) {
      interval& w = waiting[starting.r];
      if (w.begin == w.end) w.end = starting.end;
      w.begin = starting.begin;
      kept += starting.end - starting.begin;
      nonempty.insert(starting.r);
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
