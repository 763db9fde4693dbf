#include "core/optimizer/square_sum.h"

#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

// The order of the definition, written with indices instead of loops over lanes.
double InDefinedOrder(const std::vector<float>& values) {
  std::vector<double> lanes(16, 0.0);
  for (size_t i = 0; i < values.size(); ++i) lanes[i % 16] += double{values[i]} * values[i];
  while (lanes.size() > 1) {
    std::vector<double> halves;
    for (size_t i = 0; i < lanes.size() / 2; ++i) halves.push_back(lanes[i] + lanes[i + lanes.size() / 2]);
    lanes = halves;
  }
  return lanes[0];
}

std::vector<float> Random(size_t size) {
  std::mt19937 generator(static_cast<unsigned>(size));
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  for (float& value : values) value = normal(generator) * std::exp(5 * normal(generator));
  return values;
}

TEST(SumOfSquaresTest, SameBitsAsTheDefinition) {
  for (size_t size = 0; size <= 200; ++size) EXPECT_EQ(SumOfSquares(Random(size)), InDefinedOrder(Random(size)));
  EXPECT_EQ(SumOfSquares(Random(65536)), InDefinedOrder(Random(65536)));
  EXPECT_EQ(SumOfSquares(Random(65535)), InDefinedOrder(Random(65535)));
  for (size_t size = 0; size <= 100; ++size) {
    EXPECT_EQ(SumOfSquares(Random(size), VectorIsa::kV3), InDefinedOrder(Random(size)));
  }
}

TEST(SumOfSquaresTest, AlignmentDoesNotMatter) {
  const std::vector<float> values = Random(1000);
  for (size_t shift = 0; shift < 20; ++shift) {
    std::vector<float> moved(shift, 0.0f);
    moved.insert(moved.end(), values.begin(), values.end());
    EXPECT_EQ(SumOfSquares(std::span(moved).subspan(shift)), SumOfSquares(values));
  }
}

TEST(SumOfSquaresTest, IsAccurate) {
  long double exact = 0;
  const std::vector<float> values = Random(50000);
  for (const float value : values) exact += static_cast<long double>(value) * value;
  EXPECT_NEAR(SumOfSquares(values) / static_cast<double>(exact), 1, 1e-13);
}

TEST(SumOfSquaresTest, OneBadValueShows) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const size_t at : {0u, 5u, 16u, 99u}) {
      std::vector<float> values = Random(100);
      values[at] = bad;
      EXPECT_FALSE(std::isfinite(SumOfSquares(values)));
    }
  }
  const std::vector<float> largest(65536, std::numeric_limits<float>::max());
  EXPECT_TRUE(std::isfinite(SumOfSquares(largest)));
}

}  // namespace
}  // namespace penstock
