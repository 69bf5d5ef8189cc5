// A test program without a test: registered like any other, it must fail.
#include <gtest/gtest.h>
