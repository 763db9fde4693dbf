#include "worker/ops/cpu/vector.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace penstock::cpu::v3 {
namespace {

float ExpOf(float x) {
  float lanes[kLanes];
  Store(lanes, Exp(Splat(x)));
  return lanes[5];
}

TEST(Vector, ExpIsCloseToTheRealOne) {
  double worst = 0;
  for (float x = -87.0F; x <= 88.0F; x += 0.0037F) {
    const double expected = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(ExpOf(x)) - expected) / expected);
  }
  EXPECT_LT(worst, 2e-7);
  EXPECT_EQ(ExpOf(0.0F), 1.0F);
}

TEST(Vector, ExpOutsideItsRangeStaysFiniteButANanStaysOne) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(ExpOf(-kInfinity), ExpOf(-87.0F));
  EXPECT_GT(ExpOf(-1000.0F), 0.0F);
  EXPECT_EQ(ExpOf(kInfinity), ExpOf(88.0F));
  EXPECT_TRUE(std::isfinite(ExpOf(1000.0F)));
  EXPECT_TRUE(std::isnan(ExpOf(std::numeric_limits<float>::quiet_NaN())));
}

TEST(Vector, MaximumKeepsANan) {
  std::vector<float> values(kLanes, 1.0F);
  values[9] = 3.0F;
  EXPECT_EQ(MaxLane(Load(values.data())), 3.0F);
  EXPECT_EQ(MaxLane(Max(Load(values.data()), Splat(2.0F))), 3.0F);
  values[4] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(MaxLane(Load(values.data()))));
  EXPECT_TRUE(std::isnan(MaxLane(Max(Load(values.data()), Splat(2.0F)))));
  EXPECT_TRUE(std::isnan(MaxLane(Max(Splat(2.0F), Load(values.data())))));
}

TEST(Vector, PartsReadAndWriteNothingBeyond) {
  std::vector<float> values = {1, 2, 3, -7};
  EXPECT_EQ(Sum(LoadPart(values.data(), 3)), 6.0F);
  EXPECT_EQ(Sum(LoadPart(values.data(), 3, 10.0F)), 136.0F);
  StorePart(values.data(), Splat(5.0F), 3);
  EXPECT_EQ(values, (std::vector<float>{5, 5, 5, -7}));
}

TEST(Vector, LanesCoverARangeOnce) {
  for (const int64_t end : {0, 1, 15, 16, 17, 50}) {
    std::vector<int> seen(static_cast<size_t>(end), 0);
    ForLanes(0, end, [&](int64_t i, int64_t count) {
      for (int64_t lane = 0; lane < count; ++lane) ++seen[static_cast<size_t>(i + lane)];
    });
    EXPECT_EQ(seen, std::vector<int>(static_cast<size_t>(end), 1));
  }
}

}  // namespace
}  // namespace penstock::cpu::v3
