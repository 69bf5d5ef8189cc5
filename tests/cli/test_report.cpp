#include <cstdlib>
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "csrc/cli/plot.h"
#include "csrc/cli/report.h"
#include "csrc/cli/report_table.h"

namespace radixkv::cli {
namespace {

replay_result run(const std::string& policy, const std::string& capacity, std::uint64_t tokens,
                  std::uint64_t hit_blocks) {
  replay_result r;
  r.source = "a <trace> & more";
  r.policy = policy;
  r.capacity = capacity;
  r.capacity_tokens = tokens;
  r.block_tokens = 16;
  r.requests = 10;
  r.prompt_tokens = 1600;
  r.hit_tokens = 400;
  r.blocks = 100;
  r.hit_blocks = hit_blocks;
  if (policy != "belady") {
    r.requests_per_second = 1000;
    r.index_bytes_per_token = 4.5;
    r.us = replay_times{{1, 2, 3, 4, 5, 6}, {}, {}, {}, {7, 8, 9, 10, 11, 12}, 3.5};
  }
  return r;
}

TEST(report, json_has_the_members_that_others_read) {
  replay_result r = run("lru", "3M", 3000000, 30);
  r.verify = verify_counts{77, 8};
  r.evicted_blocks = 11;
  r.copied_blocks = 12;
  r.refused_requests = 13;
  r.threads = 14;
  r.lookahead = 15;
  r.policy_statistics.blocks = 99;
  r.policy_statistics.lru_hit_blocks = 20;
  r.executor = "host";
  const auto o = nlohmann::json::parse(to_json({&r, 1}, false));
  ASSERT_TRUE(o.is_object());
  for (const char* member : {"requests", "prompt_tokens", "hit_tokens", "token_hit_rate", "blocks",
                             "hit_blocks", "block_hit_rate", "evicted_blocks", "copied_blocks",
                             "requests_per_second", "index_bytes_per_token", "wrong_bytes",
                             "checked_bytes", "block_tokens", "capacity_tokens"}) {
    EXPECT_TRUE(o.at(member).is_number()) << member;
  }
  const auto values = nlohmann::json::parse(R"({"requests": 10, "prompt_tokens": 1600,
    "hit_tokens": 400, "token_hit_rate": 0.25, "blocks": 100, "hit_blocks": 30,
    "block_hit_rate": 0.3, "evicted_blocks": 11, "copied_blocks": 12, "requests_per_second": 1000.0,
    "index_bytes_per_token": 4.5, "wrong_bytes": 8, "checked_bytes": 77, "policy": "lru",
    "lookahead": 15, "lru_block_hit_rate": 0.2, "block_tokens": 16, "capacity_tokens": 3000000,
    "capacity": "3M", "refused_requests": 13, "threads": 14, "executor": "host",
    "source": "a <trace> & more"})");
  for (const auto& [member, value] : values.items()) EXPECT_EQ(o.at(member), value) << member;
  EXPECT_EQ(o.size(), values.size() + 1) << "and \"us\"";
  for (const char* stage : {"match", "allocate", "commit", "evict", "total"}) {
    for (const char* value : {"mean", "p50", "p90", "p99", "p999", "max"}) {
      EXPECT_TRUE(o.at("us").at(stage).at(value).is_number()) << stage << value;
    }
  }
  EXPECT_EQ(o["us"]["match"]["p999"], 5);
  EXPECT_EQ(o["us"]["total"]["max"], 12);
  EXPECT_EQ(o["us"]["floor"]["mean"], 3.5);
}

TEST(report, json_is_an_array_for_lists_and_takes_any_bytes) {
  replay_result r = run("belady", "3M", 3000000, 25);
  r.source = "\xff\xfe";
  const auto a = nlohmann::json::parse(to_json({&r, 1}, true));
  ASSERT_TRUE(a.is_array());
  EXPECT_TRUE(a[0]["us"].is_null());
  EXPECT_FALSE(a[0].contains("wrong_bytes"));
}

TEST(report, the_gap_is_shared_out_between_lru_and_belady) {
  const std::vector<replay_result> all{run("lru", "1M", 1000000, 10), run("x", "1M", 1000000, 15),
                                       run("belady", "1M", 1000000, 30),
                                       run("lru", "3M", 3000000, 20), run("x", "3M", 3000000, 25)};
  EXPECT_EQ(gap_closed(all[0], all), 0.0);
  EXPECT_NEAR(*gap_closed(all[1], all), 0.25, 1e-12);
  EXPECT_EQ(gap_closed(all[2], all), 1.0);
  EXPECT_FALSE(gap_closed(all[4], all).has_value());  // no optimum at 3M
  const std::vector<replay_result> equal{run("lru", "1M", 1000000, 30), all[2]};
  EXPECT_FALSE(gap_closed(equal[0], equal).has_value());  // no gap
  const std::string t = table(all);
  EXPECT_NE(t.find("15.00 %   (25.0 %)"), std::string::npos) << t;
  EXPECT_NE(t.find("-\n"), std::string::npos) << t;
  const std::string csv = to_csv(all);
  EXPECT_NE(csv.find("\nx,1M,1000000,16,10,100,15,0.150000,0.250000,0,0.250000,7.000\n"),
            std::string::npos)
      << csv;
  EXPECT_NE(csv.find("\nbelady,1M,1000000,16,10,100,30,0.300000,0.250000,0,1.000000,\n"),
            std::string::npos)
      << csv;
}

TEST(report, the_plot_is_well_formed_and_in_bounds) {
  const std::vector<replay_result> all{run("lru", "1M", 1000000, 10), run("lru", "3M", 3000000, 20),
                                       run("<p>", "1M", 1000000, 100)};
  const std::string svg = to_svg(all);
  EXPECT_EQ(svg.find("<trace>"), std::string::npos);
  EXPECT_EQ(svg.find("<p>"), std::string::npos);
  EXPECT_NE(svg.find("a &lt;trace&gt; &amp; more"), std::string::npos);
  std::size_t points = 0;
  for (std::size_t at = svg.find(" r=\"3.5\""); at != std::string::npos;
       at = svg.find(" r=\"3.5\"", at + 1)) {
    ++points;
  }
  EXPECT_EQ(points, 3u);
  EXPECT_NE(svg.find("cx=\"70.0\""), std::string::npos);   // 1M at the left
  EXPECT_NE(svg.find("cx=\"600.0\""), std::string::npos);  // 3M at the right
  EXPECT_NE(svg.find("cy=\"50.0\""), std::string::npos);   // 100 % at the top
  EXPECT_EQ(svg.rfind("</svg>\n"), svg.size() - 7);
}

TEST(report, the_plot_reaches_as_high_as_the_best_rate) {
  const std::vector<replay_result> all{run("lru", "1M", 1000000, 25),
                                       run("lru", "3M", 3000000, 50)};
  const std::string svg = to_svg(all);
  EXPECT_NE(svg.find("cx=\"70.0\" cy=\"225.0\""), std::string::npos);
  EXPECT_NE(svg.find("cx=\"600.0\" cy=\"50.0\""), std::string::npos);
}

TEST(report, the_plot_of_any_name_is_utf8) {
  replay_result r = run("lru", "1M", 1000000, 10);
  r.source =
      "caf\xc3\xa9 \xff\xfe\xc3( \xe2\x82\xac \xc0\xaf \xed\xa0\x80 \xf0\x9f\x98\x80 "
      "\xf4\x90\x80\x80 \xe2\x82";
  EXPECT_NE(
      to_svg({&r, 1}).find("caf\xc3\xa9 \?\?\?( \xe2\x82\xac ?? ??? \xf0\x9f\x98\x80 ???? ??,"),
      std::string::npos);
  // UTF-8, but no characters of XML.
  r.source = "a\xef\xbf\xbe\xef\xbf\xbf\xef\xbf\xbd\x01z";
  EXPECT_NE(to_svg({&r, 1}).find("a??\xef\xbf\xbd?z,"), std::string::npos);
}

TEST(report, the_summary_holds_what_the_json_holds) {
  replay_result r = run("lru", "3M", 3000000, 25);
  r.verify = verify_counts{77, 5};
  r.refused_requests = 3;
  const std::string s = summary(r);
  for (const char* part : {"policy lru", "25 of 100, 25.00 %", "25.00 % of all", "5 wrong",
                           "3 requests for which the pool was too small", "total is 2.00 × it"}) {
    EXPECT_NE(s.find(part), std::string::npos) << part << "\n" << s;
  }
}

TEST(report, links_name_the_file_behind_them) {
  char folder[] = "report_XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string in(folder), file = in + "/file", link = in + "/link", chain = in + "/chain";
  ASSERT_EQ(::symlink("file", link.c_str()), 0);
  ASSERT_EQ(::symlink("link", chain.c_str()), 0);
  ASSERT_EQ(::symlink("/no/such/folder/x", (in + "/away").c_str()), 0);
  ASSERT_EQ(::symlink("loop", (in + "/loop").c_str()), 0);
  for (const bool exists : {false, true}) {
    if (exists) {
      ASSERT_TRUE(write_file(chain, "x").ok());
    }
    EXPECT_TRUE(same_file(file, link)) << exists;
    EXPECT_TRUE(same_file(link, file)) << exists;
    EXPECT_TRUE(same_file(chain, link)) << exists;
    EXPECT_FALSE(same_file(chain, in + "/other")) << exists;
    EXPECT_TRUE(check_writable(chain).ok()) << exists;
  }
  EXPECT_FALSE(check_writable(in + "/away").ok());
  EXPECT_FALSE(same_file(in + "/loop", file));
  std::filesystem::remove_all(in);
}

TEST(report, files_that_cannot_be_written_are_errors) {
  EXPECT_EQ(write_file("/no/such/folder/x", "y").error().code, errc::io);
  EXPECT_EQ(write_file("/dev/full", std::string(100000, 'y')).error().code, errc::io);
}

}  // namespace
}  // namespace radixkv::cli
