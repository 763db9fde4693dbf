#include "core/random/dropout_rule.h"

#include <array>
#include <bit>
#include <cmath>

#include "core/random/counter.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

uint32_t Kept(const DropoutRule& rule, uint64_t sample, uint32_t site, uint32_t block) {
  uint32_t words[4];
  DropoutBits(rule, sample, site, block, words);
  uint32_t kept = 0;
  for (int i = 0; i < kDropoutBlock; ++i) kept |= static_cast<uint32_t>(DropoutKeeps(rule, words, i)) << i;
  return kept;
}

TEST(DropoutRuleTest, BitsArePhilox) {
  const DropoutRule rule = DropoutRuleOf(0.5, 7);
  const std::array<uint32_t, 4> expected = Philox4x32({5, 3, 9, 2}, {rule.key0, rule.key1});
  uint32_t words[4];
  DropoutBits(rule, (uint64_t{9} << 32) + 3, 2, 5, words);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(words[i], expected[i]);
  for (int i = 0; i < kDropoutBlock; ++i) {
    EXPECT_EQ(DropoutKeeps(rule, words, i), (expected[static_cast<size_t>(i / 2)] >> i % 2 * 16 & 0xffff) < 0x8000);
  }
}

TEST(DropoutRuleTest, KeepsWhatItShould) {
  for (const double probability : {0.0, 0.1, 0.5, 0.9}) {
    const DropoutRule rule = DropoutRuleOf(probability, 1);
    int64_t kept = 0;
    constexpr int64_t kBlocks = 1 << 17;
    for (uint32_t block = 0; block < kBlocks; ++block) kept += std::popcount(Kept(rule, 12, 3, block));
    const double elements = kBlocks * kDropoutBlock;
    const double deviation = std::sqrt(elements * probability * (1 - probability));
    EXPECT_NEAR(static_cast<double>(kept), elements * (1 - probability), 5 * deviation + 20) << probability;
    EXPECT_NEAR(static_cast<double>(rule.scale) * (1 - probability), 1, 1e-4);
  }
  EXPECT_EQ(Kept(DropoutRuleOf(0, 1), 0, 0, 0), 0xffu);
  EXPECT_EQ(DropoutRuleOf(0.9999999, 1).keep, 1u);
}

// Neither neighbours of any kind nor other seeds have the same pattern.
TEST(DropoutRuleTest, PatternsDiffer) {
  const DropoutRule rule = DropoutRuleOf(0.5, 1);
  const auto pattern = [](const DropoutRule& of, uint64_t sample, uint32_t site) {
    uint64_t bits = 0;
    for (uint32_t block = 0; block < 8; ++block) bits = bits << 8 | Kept(of, sample, site, block);
    return bits;
  };
  const uint64_t here = pattern(rule, 4, 2);
  EXPECT_EQ(here, pattern(DropoutRuleOf(0.5, 1), 4, 2));
  EXPECT_NE(here, pattern(rule, 5, 2));
  EXPECT_NE(here, pattern(rule, 4 + (uint64_t{1} << 32), 2));
  EXPECT_NE(here, pattern(rule, 4, 3));
  EXPECT_NE(here, pattern(DropoutRuleOf(0.5, 2), 4, 2));
  EXPECT_NE(here, pattern(DropoutRuleOf(0.5, 1 + (uint64_t{1} << 32)), 4, 2));
}

}  // namespace
}  // namespace penstock
