// Whether planes of one memory share a byte, without visiting blocks.
//
// A plane is two nested strides around a run of bytes. Its bytes lie (0) in one interval of the
// memory; (1) taken modulo its outer stride, in one window of that circle; (2) taken modulo its
// inner stride, where that divides the outer one, in a window as long as a run. Planes whose
// windows are disjoint at any of these levels share no byte. So planes are clustered by
// intersecting windows at level 0, each cluster again at level 1, and so on: a cluster that level 2
// cannot take apart, or whose strides differ, is refused.
#include <algorithm>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "csrc/core/no_memory.h"
#include "radixkv/export.h"
#include "radixkv/layout.h"

namespace radixkv {

namespace {

using wide = unsigned __int128;

struct nest {
  std::size_t index = 0;  // of the plane
  wide start = 0;
  wide run = 0;
  wide outer_stride = 0, inner_stride = 0;  // inner_stride 0: there is no inner level
  wide outer_count = 1, inner_count = 1;

  wide inner_span() const { return (inner_count - 1) * inner_stride + run; }
  wide span() const { return (outer_count - 1) * outer_stride + inner_span(); }
};

nest nest_of(const memory_layout& l, std::size_t index, std::uint64_t base) {
  const plane_layout& p = l.planes[index];
  nest n;
  n.index = index;
  n.start = wide{base} + p.offset;
  n.run = wide{l.block_tokens} * p.bytes_per_token;
  n.outer_count = static_cast<std::uint64_t>(l.blocks);
  n.outer_stride = static_cast<std::uint64_t>(p.block_stride);
  if (p.inner_count > 1) {
    n.inner_count = p.inner_count;
    n.inner_stride = static_cast<std::uint64_t>(p.inner_stride);
    if (n.outer_stride < n.inner_span() && n.outer_count > 1) {  // heads outermost
      std::swap(n.outer_count, n.inner_count);
      std::swap(n.outer_stride, n.inner_stride);
    }
  }
  if (n.outer_count == 1) n.outer_stride = std::max(n.outer_stride, n.inner_span());
  return n;
}

struct window {
  wide first, last;  // first ≤ x < last; on a circle last may exceed the modulus
  nest plane;
};

status refuse(const nest& a, const nest& b, const char* why) {
  return {errc::invalid_argument, "layout: planes " + std::to_string(std::min(a.index, b.index)) +
                                      " and " + std::to_string(std::max(a.index, b.index)) + " " +
                                      why};
}

// Modulus and window length of a plane at level 1 or 2; modulus 0: this level says nothing of it.
std::pair<wide, wide> circle(const nest& n, int level) {
  if (level == 1) return {n.outer_stride, n.inner_span()};
  if (n.inner_count == 1 || n.outer_stride % n.inner_stride != 0) return {0, 0};
  return {n.inner_stride, n.run};
}

status separate(std::vector<nest> planes, int level) {
  if (planes.size() < 2) return {};
  if (level > 2) return refuse(planes[0], planes[1], "overlap");

  wide modulus = 0;  // of the circle; 0 at level 0, where memory is a line
  if (level > 0) {
    modulus = circle(planes[0], level).first;
    for (const nest& n : planes) {
      const wide m = circle(n, level).first;
      if (m == 0 || m != modulus) {
        return refuse(planes[0], &n == &planes[0] ? planes[1] : n,
                      "overlap, or are interleaved with unequal strides");
      }
    }
  }
  std::vector<window> windows;
  for (const nest& n : planes) {
    const wide first = level == 0 ? n.start : n.start % modulus;
    windows.push_back({first, first + (level == 0 ? n.span() : circle(n, level).second), n});
  }
  std::sort(windows.begin(), windows.end(),
            [](const window& a, const window& b) { return a.first < b.first; });

  // Consecutive clusters of intersecting windows.
  std::vector<std::vector<nest>> clusters;
  wide end = 0;
  for (const window& w : windows) {
    if (clusters.empty() || w.first >= end) clusters.emplace_back();
    clusters.back().push_back(w.plane);
    end = std::max(end, w.last);
  }
  // A window that runs past the end of the circle meets those at its start.
  if (level > 0 && end > modulus && clusters.size() > 1) {
    std::size_t joined = 0;
    std::size_t at = 0;
    for (; joined + 1 < clusters.size(); ++joined) {
      if (windows[at].first + modulus >= end) break;
      at += clusters[joined].size();
    }
    for (std::size_t i = 0; i < joined; ++i) {
      clusters.back().insert(clusters.back().end(), clusters[i].begin(), clusters[i].end());
    }
    clusters.erase(clusters.begin(), clusters.begin() + static_cast<std::ptrdiff_t>(joined));
  }
  for (std::vector<nest>& cluster : clusters) {
    if (status s = separate(std::move(cluster), level + 1); !s) return s;
  }
  return {};
}

}  // namespace

RADIXKV_EXPORT status memory_layout::validate_disjoint(std::span<const std::uint64_t> bases) const
    try {
  if (!bases.empty() && bases.size() != planes.size()) {
    return {errc::invalid_argument, "layout: " + std::to_string(bases.size()) +
                                        " base addresses for " + std::to_string(planes.size()) +
                                        " planes"};
  }
  std::vector<nest> nests;
  for (std::size_t i = 0; i < planes.size(); ++i) {
    nests.push_back(nest_of(*this, i, bases.empty() ? 0 : bases[i]));
  }
  return separate(std::move(nests), 0);
} catch (const std::bad_alloc&) {
  return detail::no_memory("to compare the planes of a layout");
}

}  // namespace radixkv
