// Looking at a cache from outside: statistics, listings, dumps, checks; and the report of a failed
// plan.
#include <algorithm>
#include <sstream>
#include <unordered_map>

#include "csrc/core/cache_core.h"
#include "csrc/core/token_ops.h"

namespace radixkv::detail {

void cache_core::report_failure(const step_plan& plan) {
  guard lock(*this);
  failed_.report(plan.copies);
  if (!slots_) return;
  for (const logits_move& m : plan.logits) {
    if (m.direction == logits_direction::store && slots_->live(m.slot)) slots_->drop(m.slot);
  }
}

cache_statistics cache_core::statistics() const {
  std::lock_guard lock(mutex_);
  cache_statistics s = counted_;
  s.blocks = pool_.blocks();
  s.blocks_free = pool_.free();
  s.blocks_retiring = pool_.retiring();
  s.blocks_used = pool_.used();
  s.blocks_shared = pool_.shared();
  s.blocks_cached = pool_.tree_held();
  s.cached_tokens = tree_.cached_tokens();
  s.cached_prefixes = tree_.leaves();
  s.namespaces = static_cast<std::int64_t>(spaces_.size());
  s.sequences = open_count_;
  s.logits_used = slots_ ? slots_->size() : 0;
  s.announcements = announcements_.load();
  s.pinned_prefixes = static_cast<std::int64_t>(pins_.size());
  s.sequence_hints =
      static_cast<std::int64_t>(policy_->marks()) - s.announcements - s.pinned_prefixes;
  s.policy = policy_->statistics();
  s.nodes = tree_.nodes();
  s.index_bytes = static_cast<std::int64_t>(tree_.bytes(pool_.high_water()) + pool_.bytes() +
                                            failed_.bytes() + spaces_.bytes() + policy_->bytes() +
                                            (slots_ ? slots_->bytes() : 0) + hint_bytes_);
  return s;
}

std::vector<sequence_info> cache_core::sequences() const {
  std::lock_guard lock(mutex_);
  std::vector<sequence_info> all;
  all.reserve(static_cast<std::size_t>(open_count_));
  for (const sequence_state* s = open_; s; s = s->next) {
    all.push_back({s->id, s->tokens, s->cached, static_cast<std::int64_t>(s->table.size())});
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return all;
}

namespace {

using children_map = std::unordered_map<node_id, std::vector<node_id>>;

// A name in quotes, whatever bytes it has: what is not printable ASCII as \xNN.
std::string quoted(std::string_view name) {
  std::string out = "\"";
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '"' && c != '\\') {
      out += c;
    } else {
      constexpr char digits[] = "0123456789abcdef";
      (out += "\\x") += {digits[byte >> 4], digits[byte & 15]};
    }
  }
  return out += '"';
}

// One line: depth, run, blocks, pins, and the first tokens.
void print_node(const radix_tree& tree, node_id n, std::size_t depth, std::ostream& out) {
  out << std::string(2 * depth, ' ') << "node " << n << " tokens ["
      << std::uint64_t{tree.first_block(n)} * tree.block_tokens() << ", +" << tree.tokens(n)
      << ") blocks " << tree.blocks(n);
  if (const std::uint32_t pins = tree.pins(n).count()) {
    out << " pins " << pins << " (" << tree.pinned_blocks(n) << " blocks)";
  }
  out << " block " << tree.block(n, 0) << ":";
  const std::uint32_t shown = std::min(8u, std::min(tree.tokens(n), tree.block_tokens()));
  for (std::uint32_t i = 0; i < shown; ++i) out << ' ' << load_word(tree.row(tree.block(n, 0)) + i);
  if (tree.tokens(n) > shown) out << " …";
  out << '\n';
}

}  // namespace

std::string cache_core::dump(std::size_t max_lines) const {
  std::lock_guard lock(mutex_);
  children_map children;
  std::vector<node_id> roots;
  for (const node_id n : tree_.all_nodes()) {
    if (tree_.is_root(n)) {
      roots.push_back(n);
    } else {
      children[tree_.parent(n)].push_back(n);
    }
  }
  std::ostringstream out;
  std::size_t lines = 0;
  struct item {
    node_id node;
    std::size_t depth;
  };
  for (const node_id root : roots) {
    if (lines++ == max_lines) break;
    out << "namespace " << quoted(spaces_.name_of(root)) << "\n";
    std::vector<item> todo{{root, 0}};
    while (!todo.empty()) {
      const item i = todo.back();
      todo.pop_back();
      if (i.node != root) {
        if (lines++ >= max_lines) return out.str() + "…\n";
        print_node(tree_, i.node, i.depth, out);
      }
      std::vector<node_id>& c = children[i.node];
      std::sort(c.begin(), c.end(), std::greater<>());
      for (const node_id n : c) todo.push_back({n, i.depth + 1});
    }
  }
  return out.str();
}

void cache_core::for_each_prefix(
    const std::function<bool(std::string_view, std::span<const token_id>)>& visit) const {
  std::lock_guard lock(mutex_);
  std::vector<node_id> path;
  std::vector<token_id> tokens;
  for (const node_id leaf : tree_.all_nodes()) {
    if (tree_.is_root(leaf) || tree_.children(leaf) != 0) continue;
    path.clear();
    tokens.clear();
    node_id n = leaf;
    for (; !tree_.is_root(n); n = tree_.parent(n)) path.push_back(n);
    for (auto it = path.rbegin(); it != path.rend(); ++it) {
      std::uint32_t left = tree_.tokens(*it);
      for (std::uint32_t i = 0; left > 0; ++i) {
        const std::uint32_t take = std::min(left, tree_.block_tokens());
        const std::size_t at = tokens.size();
        tokens.resize(at + take);
        copy_words(tokens.data() + at, tree_.row(tree_.block(*it, i)), take);
        left -= take;
      }
    }
    if (!visit(spaces_.name_of(n), tokens)) return;
  }
}

std::string cache_core::check() const {
  std::lock_guard lock(mutex_);
  if (std::string wrong = tree_.check(); !wrong.empty()) return "index: " + wrong;
  if (std::string wrong = policy_->check(); !wrong.empty()) return "policy: " + wrong;
  if (slots_) {
    if (std::string wrong = slots_->check(); !wrong.empty()) return "logits rows: " + wrong;
  }
  // Every block's holders, counted from those who hold it.
  std::vector<bool> in_tree(static_cast<std::size_t>(pool_.blocks()));
  std::vector<std::uint32_t> holds(static_cast<std::size_t>(pool_.blocks()));
  std::unordered_map<node_id, std::uint32_t> pins;
  for (const node_id n : tree_.all_nodes()) {
    if (tree_.is_root(n)) continue;
    for (const block_id b : tree_.tail(n, tree_.blocks(n)))
      in_tree[static_cast<std::size_t>(b)] = true;
  }
  std::int64_t open = 0;
  for (const sequence_state* s = open_; s; s = s->next) {
    ++open;
    ++pins[s->pin.end()];
    const std::string name = "sequence " + std::to_string(s->id);
    if (!(s->committed <= s->filled && s->filled <= s->tokens && s->tokens <= s->writable &&
          s->writable <= static_cast<std::int64_t>(s->table.size()) * block_tokens())) {
      return name + ": committed ≤ filled ≤ tokens ≤ writable ≤ room does not hold";
    }
    for (auto i = static_cast<std::size_t>(s->path_blocks); i < s->table.size(); ++i) {
      ++holds[static_cast<std::size_t>(s->table[i])];
    }
    for (const block_id d : s->duplicates) ++holds[static_cast<std::size_t>(d)];
    const tree_place p = tree_.locate(s->pin.end(), static_cast<std::uint64_t>(s->path_blocks));
    std::int64_t depth = s->path_blocks;
    for (node_id n = p.node; !tree_.is_root(n); n = tree_.parent(n)) {
      for (std::int64_t i = depth - tree_.first_block(n); i-- > 0;) {
        const block_id mine = s->table[static_cast<std::size_t>(tree_.first_block(n) + i)];
        const block_id theirs = tree_.block(n, static_cast<std::uint32_t>(i));
        if (mine != theirs &&
            std::find(s->duplicates.begin(), s->duplicates.end(), mine) == s->duplicates.end()) {
          return name + ": block " + std::to_string(mine) + " of its path is not the index's";
        }
      }
      depth = tree_.first_block(n);
    }
  }
  if (open != open_count_) return "open sequences miscounted";
  if (std::string wrong = check_hints(); !wrong.empty()) return wrong;
  if (std::string wrong = check_room(nodes_by_root_locked()); !wrong.empty()) return wrong;
  for (const node_id n : tree_.all_nodes()) {
    const auto it = pins.find(n);
    if (const std::uint32_t counted = tree_.pins(n).count();
        counted != (it == pins.end() ? 0 : it->second)) {
      return "node " + std::to_string(n) + " has " + std::to_string(counted) + " pins";
    }
  }
  std::vector<bool> held = in_tree;
  for (std::size_t b = 0; b < held.size(); ++b) held[b] = held[b] || holds[b] > 0;
  if (std::string wrong = pool_.check(held); !wrong.empty()) return "pool: " + wrong;
  std::int64_t cached = 0;
  for (std::int64_t b = 0; b < pool_.high_water(); ++b) {
    const auto id = static_cast<block_id>(b);
    const bool tree = in_tree[static_cast<std::size_t>(b)];
    const std::uint32_t holders = holds[static_cast<std::size_t>(b)] + (tree ? 1 : 0);
    cached += tree;
    if (holders > 0 &&
        (pool_.holders(id) != holders || pool_.tree_shares(id) != (tree && holders > 1))) {
      return "block " + std::to_string(b) + " has other holders than the pool says";
    }
  }
  if (cached != pool_.tree_held()) {
    return "the index holds " + std::to_string(cached) + " blocks; the pool says " +
           std::to_string(pool_.tree_held());
  }
  return {};
}

}  // namespace radixkv::detail
