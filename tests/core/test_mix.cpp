// Keys in equal steps must lie in a table as random ones do, whatever the secrets: with one round
// of mixing they lie in clusters for about one secret in a hundred.
#include <array>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/leading_hashes.h"
#include "csrc/core/mix.h"
#include "csrc/core/path_hash.h"

namespace radixkv::detail {
namespace {

constexpr std::uint32_t keys = 1000;
constexpr int log2_slots = 11;

// Slots that an insertion crosses in the mean, as in id_table. Half of the slots are taken in the
// end: random keys cross 1 / 2 (Knuth, TAOCP 3, 6.4).
double slots_crossed(const std::function<std::uint32_t(std::uint32_t)>& place) {
  std::vector<bool> taken(std::size_t{1} << log2_slots);
  double crossed = 0;
  for (std::uint32_t i = 0; i < keys; ++i) {
    std::size_t at = place(i);
    for (; taken[at]; at = (at + 1) % taken.size()) ++crossed;
    taken[at] = true;
  }
  return crossed / keys;
}

// Of 1,000 random keys over 10^6 secrets the worst were 0.76; single rounds reach hundreds.
constexpr double most_crossed = 1.2;

constexpr std::uint64_t steps[] = {
    1, 3, 64, 4096, 1 << 18, 1 << 22, 1ull << 31, 0x9e3779b97f4a7c15ull, 1000003};

std::uint32_t upper(std::uint32_t hash) { return hash >> (32 - log2_slots); }

// Runs `check` with many secrets, the same ones in each run and a few new ones.
void with_secrets(const std::function<void(const std::string&)>& check) {
  for (std::uint64_t seed = 0; seed < 1000 && !::testing::Test::HasFailure(); ++seed) {
#if defined(RADIXKV_DEBUG_CHECKS)
    const fixed_secrets secrets(seed);
#endif
    check("secrets " + std::to_string(seed));
  }
  for (int i = 0; i < 200 && !::testing::Test::HasFailure(); ++i) {
    const std::uint64_t seed = random_secret();
#if defined(RADIXKV_DEBUG_CHECKS)
    const fixed_secrets secrets(seed);
#endif
    check("random secrets " + std::to_string(seed));
  }
}

TEST(mix, children_lie_as_random_keys_do) {
  with_secrets([](const std::string& which) {
    const path_hasher hasher;
    for (const std::uint64_t step : steps) {
      const bool distinct = static_cast<std::uint32_t>(step * 512) != 0;
      if (distinct) {
        EXPECT_LE(slots_crossed([&](std::uint32_t i) {
                    return upper(hasher.child_hash(0, static_cast<std::uint32_t>(i * step)));
                  }),
                  most_crossed)
            << which << ", tokens in steps of " << step;
      }
      if (step > 1'000'003) continue;
      EXPECT_LE(slots_crossed([&](std::uint32_t i) {
                  return upper(hasher.child_hash(static_cast<std::uint32_t>(i * step), 7));
                }),
                most_crossed)
          << which << ", parents in steps of " << step;
    }
  });
}

TEST(mix, paths_lie_as_random_keys_do) {
  with_secrets([](const std::string& which) {
    const path_hasher hasher;
    for (const std::size_t at : {0u, 1u, 15u}) {
      for (const std::uint64_t step :
           {std::uint64_t{1}, std::uint64_t{4096}, std::uint64_t{1} << 20}) {
        EXPECT_LE(slots_crossed([&](std::uint32_t i) {
                    std::array<std::uint32_t, 16> block{};
                    block[at] = static_cast<std::uint32_t>(i * step);
                    const std::uint64_t digest = hasher.digest(block.data(), block.size());
                    return upper(hasher.jump_hash(99 + hasher.block_part(digest, 1)));
                  }),
                  most_crossed)
            << which << ", token " << at << " in steps of " << step;
      }
    }
  });
}

// Both ends of the hash are used as the place in some table.
TEST(mix, numbers_lie_as_random_keys_do) {
  with_secrets([](const std::string& which) {
    const std::uint64_t secret = random_secret();
    for (const std::uint64_t step : steps) {
      EXPECT_LE(slots_crossed([&](std::uint32_t i) {
                  return upper(static_cast<std::uint32_t>(mix(i * step, secret) >> 32));
                }),
                most_crossed)
          << which << ", steps of " << step;
      EXPECT_LE(slots_crossed([&](std::uint32_t i) {
                  return static_cast<std::uint32_t>(mix(i * step, secret)) & (2 * 1024 - 1);
                }),
                most_crossed)
          << which << ", lower bits, steps of " << step;
    }
  });
}

// Siblings that part at some token, as the forks and edges of their trie know them.
TEST(mix, prefixes_lie_as_random_keys_do) {
  with_secrets([](const std::string& which) {
    const path_hasher hasher;
    for (const std::size_t at : {0u, 6u, 14u}) {
      for (const std::uint64_t step : {std::uint64_t{1}, std::uint64_t{4096}}) {
        EXPECT_LE(slots_crossed([&](std::uint32_t i) {
                    std::array<std::uint32_t, 15> prefix{};
                    prefix[at] = static_cast<std::uint32_t>(i * step);
                    return upper(leading_hashes(hasher, 9, prefix.data(), 15).of(15));
                  }),
                  most_crossed)
            << which << ", token " << at << " in steps of " << step;
      }
    }
  });
}

TEST(mix, names_differ_by_length_and_zeros) {
  const std::uint64_t secret = random_secret();
  EXPECT_NE(mix(std::string_view("\0", 1), secret), mix(std::string_view("\0\0", 2), secret));
  EXPECT_NE(mix(std::string_view(), secret), mix(std::string_view("\0", 1), secret));
  EXPECT_EQ(mix(std::string_view("tenant"), secret), mix(std::string_view("tenant"), secret));
  EXPECT_NE(mix(std::string_view("tenant"), secret), mix(std::string_view("tenant"), ~secret));
}

#if defined(RADIXKV_DEBUG_CHECKS)
TEST(mix, fixed_secrets_repeat_and_end) {
  std::uint64_t first = 0;
  {
    const fixed_secrets secrets(5);
    first = random_secret();
    EXPECT_NE(first, random_secret());
  }
  {
    const fixed_secrets secrets(5);
    EXPECT_EQ(first, random_secret());
  }
  EXPECT_NE(random_secret(), random_secret());
}
#endif

// Hashes of all prefixes at once are those of each, in whatever order they are asked for.
TEST(mix, leading_hashes_are_those_of_prefixes) {
  std::mt19937 random(11);
  const path_hasher hasher;
  for (int round = 0; round < 200; ++round) {
    std::vector<std::uint32_t> tokens(1 + random() % 300);
    for (std::uint32_t& t : tokens) t = random() % 3 ? random() : 0xffffffffu;
    const auto n = static_cast<std::uint32_t>(tokens.size());
    leading_hashes all(hasher, 7, tokens.data(), n);
    for (int i = 0; i < 50; ++i) {
      const std::uint32_t length = 1 + random() % n;
      const std::uint64_t digest = hasher.digest(tokens.data(), length);
      ASSERT_EQ(all.digest(length), digest) << length << " of " << n;
      ASSERT_EQ(all.of(length), hasher.prefix_hash(7, digest, length));
    }
  }
}

}  // namespace
}  // namespace radixkv::detail
