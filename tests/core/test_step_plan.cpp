#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "csrc/core/crc32.h"
#include "radixkv/step_plan.h"

namespace radixkv {
namespace {

using bytes = std::vector<std::byte>;

step_plan random_plan(std::mt19937_64& random, std::size_t copies, std::size_t moves,
                      std::int64_t blocks = 1000) {
  step_plan plan;
  const auto block = [&] {
    return static_cast<block_id>(random() % static_cast<std::uint64_t>(blocks));
  };
  while (plan.copies.size() < copies) {
    const block_copy c{block(), block(), 1 + static_cast<std::uint32_t>(random() % 64)};
    if (c.source != c.destination) plan.copies.push_back(c);
  }
  for (std::size_t i = 0; i < moves; ++i) {
    plan.logits.push_back({random() % 2 ? logits_direction::load : logits_direction::store,
                           static_cast<logits_slot>(random() % 100),
                           static_cast<std::int32_t>(random() % 100)});
  }
  return plan;
}

std::uint32_t word(const bytes& b, std::size_t at) {
  std::uint32_t v;
  std::memcpy(&v, b.data() + at, 4);
  return v;
}

void set_word(bytes& b, std::size_t at, std::uint32_t v) { std::memcpy(b.data() + at, &v, 4); }

void seal(bytes& b) { set_word(b, b.size() - 4, detail::crc32(std::span(b).first(b.size() - 4))); }

TEST(step_plan, crc32_has_the_check_value_of_its_definition) {
  const char text[] = "123456789";
  const auto* p = reinterpret_cast<const std::byte*>(text);
  EXPECT_EQ(detail::crc32({p, 9}), 0xcbf43926u);
  EXPECT_EQ(detail::crc32({}), 0u);
}

TEST(step_plan, binary_form_is_fixed) {
  step_plan plan;
  plan.copies = {{1, 2, 3}};
  plan.logits = {{logits_direction::load, 4, 5}};
  bytes b = plan.serialize();
  ASSERT_EQ(b.size(), 16u + 24 + 4);
  EXPECT_EQ(std::memcmp(b.data(), "rkvp", 4), 0);
  const std::uint32_t expected[] = {1, 1, 1, 1, 2, 3, 1, 4, 5};
  for (std::size_t i = 0; i < 9; ++i) EXPECT_EQ(word(b, 4 + 4 * i), expected[i]) << i;
}

TEST(step_plan, survives_a_round_trip) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 300; ++i) {
    const step_plan plan = random_plan(random, random() % 50, random() % 50);
    const auto back = step_plan::deserialize(plan.serialize());
    ASSERT_TRUE(back.ok()) << back.error().message;
    ASSERT_TRUE(*back == plan);
  }
}

TEST(step_plan, refuses_every_truncation_extension_and_flipped_bit) {
  std::mt19937_64 random(2);
  const bytes good = random_plan(random, 5, 4).serialize();
  for (std::size_t n = 0; n < good.size(); ++n) {
    const bytes exact(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n));
    const auto r = step_plan::deserialize(exact);  // a copy: a read past it is seen by sanitizers
    ASSERT_FALSE(r.ok()) << n;
    ASSERT_EQ(r.error().code, errc::corrupt);
  }
  bytes longer = good;
  longer.push_back(std::byte{0});
  ASSERT_FALSE(step_plan::deserialize(longer).ok());
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    bytes flipped = good;
    flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    ASSERT_FALSE(step_plan::deserialize(flipped).ok()) << bit;
  }
}

TEST(step_plan, refuses_hostile_fields_behind_a_good_checksum) {
  step_plan plan;
  plan.copies = {{1, 2, 3}};
  plan.logits = {{logits_direction::load, 4, 5}};
  struct hostile {
    std::size_t at;
    std::uint32_t value;
    const char* message;
  };
  const hostile cases[] = {
      {0, 7, "magic 7"},
      {4, 2, "version 2 is not 1"},
      {8, 0xffffffffu, "4294967296 operations take"},
      {12, 0xffffffffu, "4294967296 operations take"},
      {8, 2, "3 operations take 56"},
      {8, 0, "1 operations take 32"},
      {16, 0x80000000u, "source -2147483648"},
      {16, 1u << 30, "source 1073741824 is not in [0, 1073741824)"},
      {20, 1, "destination 1 is its source"},
      {20, 0xffffffffu, "destination -1"},
      {24, 0, "tokens 0 is not in [1, 4097)"},
      {24, 4097, "tokens 4097"},
      {28, 2, "direction 2"},
      {28, 256, "direction 256"},  // must not be cut to 0
      {32, 0xffffffffu, "slot -1"},
      {36, 0xffffffffu, "row -1"},
  };
  for (const hostile& h : cases) {
    bytes b = plan.serialize();
    set_word(b, h.at, h.value);
    seal(b);
    const auto r = step_plan::deserialize(b);
    ASSERT_FALSE(r.ok()) << h.message;
    EXPECT_EQ(r.error().code, errc::corrupt);
    EXPECT_NE(r.error().message.find(h.message), std::string::npos) << r.error().message;
  }
}

TEST(step_plan, random_bytes_never_crash) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 20000; ++i) {
    bytes b(random() % 120);
    for (std::byte& x : b) x = static_cast<std::byte>(random());
    if (b.size() >= 20 && random() % 2) {  // past the envelope
      set_word(b, 0, 0x70766b72u);
      set_word(b, 4, 1);
      const auto items = static_cast<std::uint32_t>((b.size() - 20) / 12);
      b.resize(20 + items * 12);
      const auto copies = static_cast<std::uint32_t>(random() % (items + 1));
      set_word(b, 8, copies);
      set_word(b, 12, items - copies);
      seal(b);
    }
    const auto r = step_plan::deserialize(b);
    if (r.ok()) {
      ASSERT_EQ(r->serialize(), b);
    }
  }
}

// Waves by the definition: the longest run in which no destination is used by another copy.
std::vector<std::uint32_t> waves_oracle(const std::vector<block_copy>& copies) {
  std::vector<std::uint32_t> ends;
  std::set<block_id> sources, destinations;
  for (std::uint32_t i = 0; i < copies.size(); ++i) {
    const block_copy& c = copies[i];
    if (destinations.contains(c.source) || destinations.contains(c.destination) ||
        sources.contains(c.destination)) {
      ends.push_back(i);
      sources.clear();
      destinations.clear();
    }
    sources.insert(c.source);
    destinations.insert(c.destination);
  }
  if (!copies.empty()) ends.push_back(static_cast<std::uint32_t>(copies.size()));
  return ends;
}

TEST(copy_waves, are_the_longest_independent_runs) {
  std::mt19937_64 random(4);
  copy_waves waves;
  for (int i = 0; i < 3000; ++i) {
    const std::int64_t blocks = 2 + static_cast<std::int64_t>(random() % 60);
    const step_plan plan = random_plan(random, random() % 80, 0, blocks);
    const auto ends = waves.split(plan.copies);
    ASSERT_EQ(std::vector<std::uint32_t>(ends.begin(), ends.end()), waves_oracle(plan.copies));
  }
  EXPECT_TRUE(waves.split({}).empty());
}

TEST(copy_waves, one_source_to_many_is_one_wave_and_a_chain_is_many) {
  copy_waves waves;
  std::vector<block_copy> fan, chain;
  for (block_id b = 1; b <= 1000; ++b) {
    fan.push_back({0, b, 1});
    chain.push_back({b - 1, b, 1});
  }
  EXPECT_EQ(waves.split(fan).size(), 1u);
  EXPECT_EQ(waves.split(chain).size(), 1000u);
}

TEST(copy_waves, block_ids_up_to_the_limit) {
  copy_waves waves;
  std::vector<block_copy> copies;
  const auto top = static_cast<block_id>(max_blocks - 1);
  for (block_id i = 0; i < 100'000; ++i) copies.push_back({top - 2 * i, top - 2 * i - 1, 1});
  EXPECT_EQ(waves.split(copies).size(), 1u);
}

}  // namespace
}  // namespace radixkv
