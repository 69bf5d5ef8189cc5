#include "tests/core/index_history.h"

#include <algorithm>
#include <bit>
#include <map>
#include <set>
#include <span>
#include <utility>

namespace radixkv::testing {

namespace {

// Bit i: word number i is cached. Words are numbered as nodes of a complete tree, below 40.
using word_set = std::uint64_t;
constexpr unsigned words = 1 + 3 + 9 + 27;

unsigned number_of(std::span<const token_id> w) {
  unsigned at = 0;
  for (const token_id t : w) at = letters * at + static_cast<unsigned>(t) + 1;
  return at;  // 0: the empty word
}

word_set prefixes(std::span<const token_id> w) {
  word_set s = 0;
  for (std::size_t n = 1; n <= w.size(); ++n) s |= word_set{1} << number_of(w.first(n));
  return s;
}

int longest_match(word_set s, std::span<const token_id> w) {
  std::size_t n = 0;
  while (n < w.size() && (s >> number_of(w.first(n + 1)) & 1)) ++n;
  return static_cast<int>(n);
}

bool has_children(word_set s, unsigned at) {
  const unsigned first = letters * at + 1;
  return first < words && (s >> first & ((word_set{1} << letters) - 1)) != 0;
}

// All words that begin as word number `at` does, itself included.
word_set extensions(unsigned at) {
  word_set all = word_set{1} << at;
  for (unsigned first = at, last = at; letters * first + 1 < words;) {
    first = letters * first + 1;
    last = letters * last + letters;
    for (unsigned i = first; i <= last; ++i) all |= word_set{1} << i;
  }
  return all;
}

// What the handles have at a moment that the set of finished operations describes.
struct handles_view {
  word_set pinned = 0;
  word_set perhaps = 0;  // may be kept by pins
  int own_blocks = 0;
};

class checker {
 public:
  checker(const history& h, int pool) : history_(h), pool_(pool) {}

  bool search(std::uint32_t done, word_set s) {
    if (done + 1 == std::uint32_t{1} << history_.size()) return true;
    if (!failed_.emplace(done, s).second) return false;
    // Next may be whatever was invoked before the first pending return.
    std::uint64_t first_return = UINT64_MAX;
    for (std::size_t i = 0; i < history_.size(); ++i) {
      if (!(done >> i & 1)) first_return = std::min(first_return, history_[i].returned);
    }
    for (std::size_t i = 0; i < history_.size(); ++i) {
      if ((done >> i & 1) || history_[i].invoked > first_return) continue;
      for (const word_set next : apply(history_[i], done, s)) {
        if (search(done | std::uint32_t{1} << i, next)) return true;
      }
    }
    return false;
  }

 private:
  [[nodiscard]] handles_view view(std::uint32_t done) const {
    struct one {
      word text;
      std::size_t pin = 0;
      int own = 0;
      bool open = false;
    };
    std::map<int, one> all;
    for (std::size_t i = 0; i < history_.size(); ++i) {
      const history_operation& o = history_[i];
      if (!(done >> i & 1) || o.handle < 0 || o.result == history_operation::refused) continue;
      one& h = all[o.handle];
      switch (o.what) {
        case history_kind::open:
          h = {o.text, static_cast<std::size_t>(o.result),
               static_cast<int>(o.text.size()) - o.result, true};
          break;
        case history_kind::append:
          h.text = o.text;
          h.own += o.blocks;
          break;
        case history_kind::truncate:
          h.text = o.text;
          h.own -= o.blocks;
          break;
        case history_kind::commit:
          h.pin = o.text.size();
          h.own -= o.result;
          break;
        case history_kind::fork:
          h = {o.text, o.text.size(), 0, true};
          break;
        default:
          h.open = false;
      }
    }
    handles_view v;
    for (const auto& [id, h] : all) {
      if (!h.open) continue;
      v.own_blocks += h.own;
      v.pinned |= prefixes(std::span(h.text).first(h.pin));
      // Splits and earlier pins may have left the pin on all that follows.
      if (h.pin > 0) v.perhaps |= extensions(number_of(std::span(h.text).first(1)));
    }
    v.perhaps &= ~v.pinned;
    return v;
  }

  // Sets that are left when k words have gone that end paths and are not pinned.
  void without(word_set s, word_set pinned, int k, std::set<word_set>& out) const {
    if (k == 0) {
      out.insert(s);
      return;
    }
    for (unsigned at = 1; at < words; ++at) {
      const word_set bit = word_set{1} << at;
      if ((s & bit) && !(pinned & bit) && !has_children(s, at))
        without(s & ~bit, pinned, k - 1, out);
    }
  }

  // Room for `wanted` blocks: what may be left, or, if it was refused, s if it may be.
  [[nodiscard]] std::set<word_set> with_room(word_set s, const handles_view& v, int wanted,
                                             bool refused) const {
    std::set<word_set> out;
    const int missing = wanted - (pool_ - std::popcount(s) - v.own_blocks);
    const int most = std::popcount(s & ~v.pinned);
    const int least = std::popcount(s & ~v.pinned & ~v.perhaps);
    if (refused) {
      if (missing > 0 && missing > least) out.insert(s);
    } else if (missing <= 0) {
      out.insert(s);
    } else if (missing <= most) {
      without(s, v.pinned, missing, out);
    }
    return out;
  }

  // The states in which s may be after the operation had its result; none if it cannot have.
  [[nodiscard]] std::set<word_set> apply(const history_operation& o, std::uint32_t done,
                                         word_set s) const {
    const bool refused = o.result == history_operation::refused;
    handles_view v = view(done);
    const int most = std::popcount(s & ~v.pinned);
    const int least = std::popcount(s & ~v.pinned & ~v.perhaps);
    std::set<word_set> out;
    switch (o.what) {
      case history_kind::match:
        if (longest_match(s, o.text) == o.result) out.insert(s);
        return out;
      case history_kind::open: {
        const int n = static_cast<int>(o.text.size());
        const int served = std::min(longest_match(s, o.text), n - 1);
        if (!refused && served != o.result) return out;
        v.pinned |= prefixes(std::span(o.text).first(static_cast<std::size_t>(served)));
        if (served > 0) v.perhaps |= extensions(number_of(std::span(o.text).first(1)));
        v.perhaps &= ~v.pinned;
        return with_room(s, v, n - served, refused);
      }
      case history_kind::append:
        return with_room(s, v, o.blocks, refused);
      case history_kind::commit:
        if (std::popcount(prefixes(o.text) & ~s) == o.result) out.insert(s | prefixes(o.text));
        return out;
      case history_kind::evict:
        if (o.result <= std::min(o.blocks, most) && o.result >= std::min(o.blocks, least)) {
          without(s, v.pinned, o.result, out);
        }
        return out;
      case history_kind::clear:
        if (o.result <= most && o.result >= least) {
          // Whatever is not kept by a pin goes.
          std::set<word_set> left;
          without(s, v.pinned, o.result, left);
          for (const word_set l : left) {
            if ((l & ~v.pinned & ~v.perhaps) == 0) out.insert(l);
          }
        }
        return out;
      default:  // truncate, fork and release change only what the handles have
        out.insert(s);
        return out;
    }
  }

  const history& history_;
  int pool_;
  std::set<std::pair<std::uint32_t, word_set>> failed_;
};

}  // namespace

bool linearisable(const history& h, int pool_blocks) {
  return checker(h, pool_blocks).search(0, 0);
}

std::string to_text(const history& h) {
  static constexpr const char* names[] = {"match", "open",    "append", "truncate", "commit",
                                          "fork",  "release", "evict",  "clear"};
  std::string text;
  for (const history_operation& o : h) {
    text += "\n" + std::string(names[static_cast<int>(o.what)]) + " ";
    for (const token_id t : o.text) text += std::to_string(t);
    if (o.handle >= 0) text += " of " + std::to_string(o.handle);
    text += " blocks " + std::to_string(o.blocks) + " -> " + std::to_string(o.result) + " [" +
            std::to_string(o.invoked) + ", " + std::to_string(o.returned) + "]";
  }
  return text;
}

}  // namespace radixkv::testing
