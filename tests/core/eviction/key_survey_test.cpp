// Which keys fill a cache.
#include "csrc/core/eviction/key_survey.h"

#include <gtest/gtest.h>

namespace radixkv::detail {
namespace {

TEST(key_survey, holds_everything_before_the_first) {
  const key_survey survey(10);
  EXPECT_TRUE(survey.holds(1e-9f));
  EXPECT_TRUE(survey.holds(0));
}

TEST(key_survey, holds_the_largest_keys_that_fit) {
  key_survey survey(10);
  survey.add(1, 4);
  survey.add(0.25f, 5);
  survey.add(0.5f, 6);
  survey.add(0, 100);
  survey.finish();
  EXPECT_TRUE(survey.holds(1));
  EXPECT_TRUE(survey.holds(0.5f));
  EXPECT_FALSE(survey.holds(0.25f));
  EXPECT_FALSE(survey.holds(0));
}

// Which of those of one key a cache would hold nobody knows.
TEST(key_survey, holds_none_of_a_level_that_does_not_fit_as_a_whole) {
  key_survey survey(10);
  survey.add(1, 4);
  survey.add(0.5f, 7);
  survey.finish();
  EXPECT_TRUE(survey.holds(1));
  EXPECT_FALSE(survey.holds(0.5f));
}

TEST(key_survey, counts_anew_each_time) {
  key_survey survey(10);
  survey.add(1, 20);
  survey.finish();
  EXPECT_FALSE(survey.holds(1));
  survey.add(1, 10);
  survey.finish();
  EXPECT_TRUE(survey.holds(1));
  EXPECT_TRUE(survey.holds(0)) << "there is room for more than there is";
}

TEST(key_survey, takes_each_for_as_many_as_it_stands_for) {
  key_survey survey(100);
  survey.add(1, 4);
  survey.add(0.5f, 6);
  survey.add(0.25f, 1);
  survey.finish(10);
  EXPECT_TRUE(survey.holds(1));
  EXPECT_TRUE(survey.holds(0.5f));
  EXPECT_FALSE(survey.holds(0.25f));
}

}  // namespace
}  // namespace radixkv::detail
