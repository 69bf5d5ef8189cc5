// What pinned prefixes lack, by place: what is found, what is forgotten, and what it takes.
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/lacking_pins.h"

namespace {

long live = 0;  // allocations that are not freed

}  // namespace

void* operator new(std::size_t n) {
  ++live;
  if (void* const p = std::malloc(n)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept {
  if (p != nullptr) --live;
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept { operator delete(p); }

namespace radixkv::detail {
namespace {

std::vector<std::uint32_t> tokens(std::string_view letters) {
  return {letters.begin(), letters.end()};
}

std::vector<mark_id> found(lacking_pins& pins, std::uint64_t place, prefix_order::string path) {
  std::vector<mark_id> marks;
  pins.for_each_next(place, path, [&](mark_id m) {
    marks.push_back(m);
    return true;
  });
  return marks;
}

TEST(lacking_pins, what_is_lacked_at_the_same_place_may_change) {
  lacking_pins pins;
  const auto ab = tokens("ab"), cd = tokens("cd");
  lacking_pins::entry e = pins.add(2, 7);
  pins.move(e, {10, ab});
  EXPECT_EQ(found(pins, 10, tokens("abx")), std::vector<mark_id>{7});
  pins.move(e, {10, cd});
  EXPECT_EQ(found(pins, 10, tokens("abx")), std::vector<mark_id>{});
  EXPECT_EQ(found(pins, 10, tokens("cdx")), std::vector<mark_id>{7});
  pins.erase(e);
}

TEST(lacking_pins, a_prefix_lacks_what_it_was_moved_to_and_nothing_else) {
  lacking_pins pins;
  const auto ab = tokens("ab"), cd = tokens("cd");
  lacking_pins::entry e = pins.add(2, 7);
  EXPECT_TRUE(e.lacks({}, 7));
  EXPECT_FALSE(e.lacks({10, ab}, 7));
  pins.move(e, {10, ab});
  EXPECT_TRUE(e.lacks({10, ab}, 7));
  EXPECT_FALSE(e.lacks({10, cd}, 7));
  EXPECT_FALSE(e.lacks({11, ab}, 7));
  EXPECT_FALSE(e.lacks({10, ab}, 8));  // another's
  EXPECT_FALSE(e.lacks({}, 7));
  pins.erase(e);
}

TEST(lacking_pins, namespaces_whose_prefixes_lack_nothing_are_not_asked) {
  lacking_pins pins;
  const auto ab = tokens("ab");
  lacking_pins::entry e = pins.add(2, 7);
  EXPECT_FALSE(pins.any());
  EXPECT_FALSE(pins.any_of(2));
  pins.move(e, {10, ab});
  EXPECT_TRUE(pins.any());
  EXPECT_TRUE(pins.any_of(2));
  EXPECT_FALSE(pins.any_of(4));
  pins.move(e, {});
  EXPECT_FALSE(pins.any());
  EXPECT_FALSE(pins.any_of(2));
  pins.erase(e);
}

TEST(lacking_pins, prefixes_that_come_and_go_leave_nothing) {
  lacking_pins pins;
  const auto ab = tokens("ab");
  const auto come_and_go = [&] {
    lacking_pins::entry e = pins.add(2, 7);
    pins.move(e, {10, ab});
    pins.erase(e);
  };
  for (int i = 0; i < 10; ++i) come_and_go();
  const long before = live;
  for (int i = 0; i < 1000; ++i) come_and_go();
  EXPECT_EQ(live, before);
}

}  // namespace
}  // namespace radixkv::detail
