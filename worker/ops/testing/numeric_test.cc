#include "worker/ops/testing/numeric.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

TEST(RelativeError, SaysWhereTheWorstIs) {
  const std::vector<double> expected = {1, 2, 4, 4};
  EXPECT_LE(RelativeError(std::vector<float>{1, 2, 4, 4}, expected), 0);
  EXPECT_EQ(testing::PrintToString(RelativeError(std::vector<float>{1, 2, 4, 4}, expected)), "0");
  const ErrorShare error = RelativeError(std::vector<float>{1, 2.5, 3, 4.01F}, expected);
  EXPECT_EQ(error, 0.25);
  EXPECT_EQ(testing::PrintToString(error), "0.25 (at 2 of 4: 3 instead of 4; 2 are about as wrong, from 1 to 2)");
}

TEST(RelativeError, NoNumberIsTheWorst) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const ErrorShare error = RelativeError(std::vector<float>{9, nan, 3, nan}, {1, 2, 3, 4});
  EXPECT_TRUE(std::isinf(error.value));
  EXPECT_EQ(testing::PrintToString(error), "inf (at 1 of 4: nan instead of 2; 2 are about as wrong, from 1 to 3)");
  EXPECT_TRUE(std::isinf(RelativeError(std::vector<float>{1}, {1, 2}).value));
}

}  // namespace
}  // namespace penstock
