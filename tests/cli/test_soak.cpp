// A soak of a second or two, and its options.
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "csrc/cli/soak_command.h"

namespace radixkv::cli {
namespace {

class soak_policies : public ::testing::TestWithParam<const char*> {};

TEST_P(soak_policies, inject_faults_and_find_nothing) {
  soak_config c;
  c.policy = GetParam();
  c.seconds = 2;
  c.threads = 3;
  c.verify = true;
  const result<soak_result> r = soak(c);
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ(r->violation, "");
  EXPECT_GT(r->operations, 1000);
  EXPECT_GT(r->faults_injected, 10);
  EXPECT_GT(r->checked_bytes, 10'000);
  EXPECT_EQ(r->wrong_bytes, 0);
  EXPECT_EQ(r->leaked_blocks, 0);
  EXPECT_GT(r->rss_start_bytes, 0);
  EXPECT_GT(r->rss_end_bytes, 0);
}

INSTANTIATE_TEST_SUITE_P(two, soak_policies, ::testing::Values("lru", "reuse_index"));

TEST(soak, writes_the_members_of_its_interface) {
  const std::string file = "soak_" + std::to_string(getpid()) + ".json";
  soak_arguments a;
  a.minutes = "0.005";
  a.verify = true;
  a.json = file;
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(run_soak(a), 0);
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("0 wrong"), std::string::npos);
  std::ifstream in(file);
  const auto document = nlohmann::json::parse(in);
  EXPECT_EQ(document.size(), 6u);
  for (const char* name : {"operations", "faults_injected", "wrong_bytes", "leaked_blocks",
                           "rss_start_bytes", "rss_end_bytes"}) {
    ASSERT_TRUE(document.contains(name)) << name;
    EXPECT_TRUE(document[name].is_number_integer()) << name;
  }
  EXPECT_EQ(document["wrong_bytes"], 0);

  a.verify = false;
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(run_soak(a), 0);
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("no bytes verified"), std::string::npos);
  std::ifstream again(file);
  EXPECT_EQ(nlohmann::json::parse(again).at("wrong_bytes"), 0);
  unlink(file.c_str());
}

TEST(soak, takes_any_seed) {
  soak_arguments a;
  for (const char* seed : {"0", "18446744073709551615"}) {
    a.seed = seed;
    EXPECT_EQ(std::to_string(check(a).value().seed), seed);
  }
}

TEST(soak, refuses_what_makes_no_sense) {
  const auto refused = [](auto change) {
    soak_arguments a;
    change(a);
    return !check(a).ok();
  };
  EXPECT_TRUE(check(soak_arguments{}).ok());
  for (const char* minutes : {"", "0", "-1", "nan", "1x", "1e9"}) {
    EXPECT_TRUE(refused([&](soak_arguments& a) { a.minutes = minutes; })) << minutes;
  }
  EXPECT_TRUE(refused([](soak_arguments& a) { a.executor = "disk"; }));
  EXPECT_TRUE(refused([](soak_arguments& a) { a.policy = "nothing"; }));
  EXPECT_TRUE(refused([](soak_arguments& a) { a.threads = "0"; }));
}

}  // namespace
}  // namespace radixkv::cli
