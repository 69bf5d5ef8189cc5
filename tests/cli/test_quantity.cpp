#include <gtest/gtest.h>

#include "csrc/cli/quantity.h"

namespace radixkv::cli {
namespace {

TEST(quantity, numbers_as_people_write_them) {
  const struct {
    const char* text;
    std::uint64_t value;
  } cases[] = {{"1", 1},           {"300K", 300000}, {"300k", 300000},
               {"3M", 3000000},    {"0.5M", 500000}, {"0.3M", 300000},
               {"2.000", 2},       {"1.25K", 1250},  {".5K", 500},
               {"4G", 4000000000}, {"007", 7},       {"70368744177664", std::uint64_t{1} << 46}};
  for (const auto& c : cases) {
    result<std::uint64_t> r = parse_quantity(c.text);
    ASSERT_TRUE(r.ok()) << c.text;
    EXPECT_EQ(*r, c.value) << c.text;
  }
}

TEST(quantity, everything_else_is_refused_by_name) {
  for (const char* text :
       {"", "0", "K", ".", "-1", "+1", "1.5", "1.2345K", "1e6", "3 M", "3MB", "0x10", "unlimited",
        "70368744177665", "99999999999999999999999", "80000G", "1.0.0", "nan"}) {
    result<std::uint64_t> r = parse_quantity(text);
    ASSERT_FALSE(r.ok()) << text;
    EXPECT_NE(r.error().message.find(text), std::string::npos);
    EXPECT_NE(r.error().message.find("2^46"), std::string::npos);
  }
}

TEST(quantity, capacities_and_lists) {
  EXPECT_TRUE(parse_capacity("unlimited")->unlimited);
  EXPECT_EQ(parse_capacity("3M")->tokens, 3000000u);
  EXPECT_FALSE(parse_capacity("lots").ok());
  EXPECT_EQ(*split_list("a,b,c"), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(split_list("a")->size(), 1u);
  for (const char* text : {"", ",", "a,", ",a", "a,,b"})
    EXPECT_FALSE(split_list(text).ok()) << text;
}

TEST(quantity, human_numbers) {
  EXPECT_EQ(human(0), "0");
  EXPECT_EQ(human(12), "12");
  EXPECT_EQ(human(999), "999");
  EXPECT_EQ(human(12031), "12.0 K");
  EXPECT_EQ(human(144793823), "144.8 M");
  EXPECT_EQ(human(999990), "1.0 M");
  EXPECT_EQ(human(1.5), "1.5");
}

}  // namespace
}  // namespace radixkv::cli
