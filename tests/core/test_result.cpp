#include <memory>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "radixkv/result.h"

namespace radixkv {
namespace {

TEST(result, every_code_has_its_own_name) {
  std::set<std::string> names;
  for (unsigned char c = 0; c <= static_cast<unsigned char>(errc::io); ++c) {
    names.insert(to_string(static_cast<errc>(c)));
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(errc::io) + 1);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_STREQ(to_string(static_cast<errc>(200)), "unknown");
}

TEST(result, a_status_is_success_or_an_error) {
  EXPECT_TRUE(status{}.ok());
  const status failed{errc::io, "disk"};
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, errc::io);
  EXPECT_EQ(failed.error().message, "disk");
  const status copied = failed.error();
  EXPECT_EQ(copied.error().message, "disk");
}

TEST(result, holds_and_gives_away_what_cannot_be_copied) {
  result<std::unique_ptr<int>> r = std::make_unique<int>(7);
  ASSERT_TRUE(r);
  EXPECT_EQ(**r, 7);
  EXPECT_EQ(*r->get(), 7);
  const std::unique_ptr<int> taken = std::move(r).value();
  EXPECT_EQ(*taken, 7);
  const result<std::unique_ptr<int>> none{errc::not_found, "x"};
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, errc::not_found);
}

#ifndef NDEBUG
TEST(result_death, a_value_that_is_not_there_is_an_assertion) {
  const result<int> none{errc::not_found, "x"};
  EXPECT_DEATH((void)none.value(), "");
  EXPECT_DEATH((void)status{}.error(), "");
}
#endif

}  // namespace
}  // namespace radixkv
