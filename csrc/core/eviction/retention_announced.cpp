// Announced requests: which of them share more of a request's path than is held for them.
//
// However many have a path in common, a request looks only at those that it holds more for: of each
// hash those that are not held as far as its path come first.
#include <algorithm>
#include <utility>

#include "csrc/core/eviction/retention.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

mark_id retention::announce(std::span<const std::uint64_t> hashes, node_id n,
                            std::uint32_t blocks) {
  const mark_id m = make(mark_kind::announced, announced_rank);
  const std::uint32_t i = marks_.find(m);
  try {
    marks_[i].hashes.resize(hashes.size());
    hash_bytes_ += marks_[i].hashes.capacity() * sizeof(mark::path_hash);
    for (std::size_t nth = 0; nth < hashes.size(); ++nth) {
      auto& known = announced_.try_emplace({hashes[nth], nth});
      announced_path& path = known.second;
      try {
        path.marks.push_back(i);
      } catch (...) {
        if (path.marks.empty()) announced_.erase(known);
        throw;
      }
      marks_[i].hashes[nth] = {hashes[nth], static_cast<std::uint32_t>(path.marks.size() - 1)};
      swap_places(path, path.lacking++, marks_[i].hashes[nth].place, nth);
    }
  } catch (...) {
    end(i);
    throw;
  }
  marks_[i].order = ~announcements_++;
  put(i, n, blocks);
  return m;
}

// Mark i, whose nth hash is the path's, has that place.
void retention::set_place(announced_path& path, std::uint32_t at, std::uint32_t i,
                          std::size_t nth) {
  path.marks[at] = i;
  marks_[i].hashes[nth].place = at;
}

void retention::swap_places(announced_path& path, std::uint32_t a, std::uint32_t b,
                            std::size_t nth) {
  const std::uint32_t at_a = path.marks[a];
  set_place(path, a, path.marks[b], nth);
  set_place(path, b, at_a, nth);
}

void retention::forget_hashes(std::uint32_t i) {
  std::vector<mark::path_hash>& hashes = marks_[i].hashes;
  for (std::size_t nth = 0; nth < hashes.size(); ++nth) {
    if (hashes[nth].place == no_index) continue;  // there was no memory for it
    auto* const found = announced_.find(path_key{hashes[nth].hash, nth});
    announced_path& path = found->second;
    if (nth >= marks_[i].held_chunks) swap_places(path, hashes[nth].place, --path.lacking, nth);
    swap_places(path, hashes[nth].place, static_cast<std::uint32_t>(path.marks.size() - 1), nth);
    path.marks.pop_back();
    if (path.marks.empty()) announced_.erase(*found);
  }
}

// An announcement lies elsewhere, or covers less.
void retention::count_held(std::uint32_t i) {
  mark& m = marks_[i];
  const std::uint32_t depth = m.node == no_node ? 0 : tree_->first_block(m.node) + m.blocks;
  const auto held =
      static_cast<std::uint32_t>(std::min<std::size_t>(m.hashes.size(), depth / chunk_blocks()));
  for (; m.held_chunks < held; ++m.held_chunks) {
    announced_path& path =
        announced_.find(path_key{m.hashes[m.held_chunks].hash, m.held_chunks})->second;
    swap_places(path, m.hashes[m.held_chunks].place, --path.lacking, m.held_chunks);
  }
  for (; m.held_chunks > held; --m.held_chunks) {
    announced_path& path =
        announced_.find(path_key{m.hashes[m.held_chunks - 1].hash, m.held_chunks - 1})->second;
    swap_places(path, m.hashes[m.held_chunks - 1].place, path.lacking++, m.held_chunks - 1);
  }
}

// Announcements that share more of the request's path than was cached of theirs are laid on it.
void retention::lay_announced(const request_info& request) {
  if (announced_.find(path_key{request.path_hashes[0], 0}) == nullptr) return;
  node_id n = request.node;
  for (std::size_t nth = request.path_hashes.size(); nth-- > 0;) {
    count_lookups();
    const auto* const found = announced_.find(path_key{request.path_hashes[nth], nth});
    if (found == nullptr) continue;
    const auto depth = static_cast<std::uint32_t>(nth + 1) * chunk_blocks();
    if (depth > tree_->first_block(n) + tree_->blocks(n)) continue;
    while (tree_->first_block(n) >= depth) n = tree_->parent(n);
    for (std::uint32_t left = found->second.lacking; left > 0; --left) {
      count_marks();
      lay(marks_.id(found->second.marks[0]), n, depth - tree_->first_block(n));
    }
  }
}

std::string retention::check_announced() const {
  std::size_t withheld = 0, places = 0;
  for (std::uint32_t i = 0; i < marks_.slots(); ++i) {
    const mark& m = marks_[i];
    withheld += m.withheld;
    if (m.withheld && (m.node == no_node || giving_way_.contains(i))) {
      return "mark " + std::to_string(i) + " is not withheld";
    }
    for (std::size_t nth = 0; nth < m.hashes.size(); ++nth, ++places) {
      const auto* const found = announced_.find(path_key{m.hashes[nth].hash, nth});
      if (found == nullptr || m.hashes[nth].place >= found->second.marks.size() ||
          found->second.marks[m.hashes[nth].place] != i ||
          (m.hashes[nth].place < found->second.lacking) != (nth >= m.held_chunks)) {
        return "announcement " + std::to_string(i) + " is not among those of its path";
      }
    }
    const std::uint32_t depth = m.node == no_node ? 0 : tree_->first_block(m.node) + m.blocks;
    if (m.held_chunks != std::min<std::size_t>(m.hashes.size(), depth / chunk_blocks())) {
      return "announcement " + std::to_string(i) + " is held otherwise than counted";
    }
  }
  bool empty = false;
  announced_.for_each([&](const auto& path) {
    places -= path.second.marks.size();
    empty = empty || path.second.marks.empty();
  });
  if (empty || places != 0) return "an announcement's hash has outlived it";
  if (withheld != withheld_) return std::to_string(withheld) + " announcements are withheld";
  return {};
}

}  // namespace radixkv::detail
