#include "core/base/bfloat16.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float Rounded(float value) { return ToFloat(ToBfloat16(value)); }

TEST(Bfloat16, RoundsToTheNearestTiesToEven) {
  EXPECT_EQ(Rounded(1.0F), 1.0F);
  EXPECT_EQ(Rounded(-2.5F), -2.5F);
  // Neighbours of 1 are 2^-7 apart.
  EXPECT_EQ(Rounded(1.0F + 0x1.8p-9F), 1.0F);
  EXPECT_EQ(Rounded(1.0F + 0x1p-8F), 1.0F);                      // a tie: 1 is even
  EXPECT_EQ(Rounded(1.0F + 0x1p-7F + 0x1p-8F), 1.0F + 0x1p-6F);  // a tie: the upper one is even
  EXPECT_EQ(Rounded(1.0F + 0x1.01p-8F), 1.0F + 0x1p-7F);     // just above a tie
  EXPECT_EQ(std::signbit(Rounded(-0.0F)), true);
  EXPECT_EQ(Rounded(0x1p-149F), 0.0F);
  EXPECT_EQ(Rounded(0x1p-133F), 0x1p-133F);  // the smallest subnormal
}

TEST(Bfloat16, OverflowsToInfinityAndKeepsNans) {
  EXPECT_EQ(Rounded(std::numeric_limits<float>::max()), kInfinity);
  EXPECT_EQ(Rounded(-kInfinity), -kInfinity);
  EXPECT_TRUE(std::isnan(Rounded(std::numeric_limits<float>::quiet_NaN())));
  // One whose payload stands in the lower half only.
  EXPECT_TRUE(std::isnan(Rounded(std::bit_cast<float>(0x7F800001U))));
}

TEST(Bfloat16, SpansGiveTheBitsOfSingleValues) {
  std::vector<float> values;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 65'521) {
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  std::vector<Bfloat16> narrow(values.size());
  ToBfloat16(values, narrow);
  std::vector<float> wide(values.size());
  ToFloat(narrow, wide);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(narrow[i], ToBfloat16(values[i])) << i;
    ASSERT_EQ(std::bit_cast<uint32_t>(wide[i]), uint32_t{narrow[i].bits} << 16) << i;
  }
}

}  // namespace
}  // namespace penstock
