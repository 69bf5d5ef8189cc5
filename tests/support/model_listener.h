// A mirror of the index as its listener is told of it: which whole blocks are offered, what their
// bytes must be, and which may still be named by readers of an older state.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "radixkv/index_listener.h"
#include "tests/support/model_memory.h"

namespace radixkv::testing {

class model_listener final : public index_listener {
 public:
  // `seed` of a namespace's path, by its name.
  explicit model_listener(std::uint64_t (*seed)(std::string_view)) : seed_(seed) {}

  bool on_publish(block_id block, block_id parent, std::string_view space,
                  std::span<const token_id> tokens) noexcept override {
    // What was dropped while a sequence held it may come back, the same as it was.
    if (offers(block)) wrong_ = "offered twice: block " + std::to_string(block);
    if (refuse_every_ > 0 && ++offered_ % refuse_every_ == 0) return false;
    entry e{parent, {}, 0};
    std::uint64_t hash = seed_(space);
    if (parent != no_block) {
      const auto above = taken_.find(parent);
      if (above == taken_.end()) {
        wrong_ = "offered before its parent: block " + std::to_string(block);
        return false;
      }
      hash = above->second.hashes.back();
      ++above->second.children;
    }
    for (const token_id t : tokens) e.hashes.push_back(hash = model_memory::fold(hash, t));
    taken_[block] = std::move(e);
    return true;
  }
  std::uint64_t on_drop(block_id block) noexcept override {
    const auto gone = taken_.find(block);
    if (gone == taken_.end() || gone->second.children != 0) {
      wrong_ = "dropped, but not taken or before its children: block " + std::to_string(block);
      return ticket_;
    }
    if (const block_id parent = gone->second.parent; parent != no_block) {
      --taken_.at(parent).children;
    }
    taken_.erase(gone);
    return dropped_[block] = ticket_;
  }
  std::uint64_t retired() noexcept override {
    std::erase_if(dropped_, [this](const auto& d) { return d.second <= reached_; });
    return reached_;
  }

  // Of what is offered from now on every nth is not taken; 0: all is.
  void refuse_every(std::uint64_t n) noexcept { refuse_every_ = n; }
  [[nodiscard]] bool takes_all() const noexcept { return refuse_every_ == 0; }
  // What is dropped from now on waits for a later ticket.
  void publish() noexcept { ++ticket_; }
  // Nobody names what was dropped with any ticket before the present one.
  void retire() noexcept { reached_ = ticket_ - 1; }

  [[nodiscard]] bool offers(block_id b) const { return taken_.contains(b); }
  // Whether somebody may still read it as a part of the index.
  [[nodiscard]] bool names(block_id b) const { return offers(b) || dropped_.contains(b); }
  [[nodiscard]] std::int64_t dropped() const noexcept {
    return static_cast<std::int64_t>(dropped_.size());
  }
  // Empty, or what was wrong: a call, or the bytes of a block that is offered.
  [[nodiscard]] std::string check(const model_memory& memory) const {
    if (!wrong_.empty()) return wrong_;
    for (const auto& [block, e] : taken_) {
      if (!memory.holds(std::span(&block, 1), 0, e.hashes)) {
        return "offered with wrong bytes: block " + std::to_string(block);
      }
    }
    return {};
  }

 private:
  struct entry {
    block_id parent;
    std::vector<std::uint64_t> hashes;  // of the path up to each of its tokens
    int children;
  };
  std::uint64_t (*seed_)(std::string_view);
  std::map<block_id, entry> taken_;
  std::map<block_id, std::uint64_t> dropped_;  // with the ticket that it waits for
  std::uint64_t ticket_ = 1;
  std::uint64_t reached_ = 0;
  std::uint64_t refuse_every_ = 0;
  std::uint64_t offered_ = 0;
  std::string wrong_;
};

}  // namespace radixkv::testing
