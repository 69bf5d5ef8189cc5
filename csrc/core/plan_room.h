// Room in a plan's lists before anything is changed, so that a refused allocation undoes nothing.
#pragma once

#include <algorithm>
#include <vector>

namespace radixkv::detail {

// Afterwards `extra` push_backs cannot throw. Grows geometrically. May throw std::bad_alloc.
template <typename T>
void reserve_more(std::vector<T>& v, std::size_t extra) {
  if (v.capacity() - v.size() < extra) v.reserve(std::max(v.size() + extra, 2 * v.capacity()));
}
template <typename T>
void reserve_one(std::vector<T>& v) {
  reserve_more(v, 1);
}

}  // namespace radixkv::detail
