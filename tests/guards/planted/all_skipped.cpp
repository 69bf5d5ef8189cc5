// A program of which every test skips itself: a ctest that takes it for passed would hide that
// nothing ran.
#include <gtest/gtest.h>

TEST(all_skipped, looks_at_nothing) { GTEST_SKIP() << "planted"; }
