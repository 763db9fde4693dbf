#include "worker/runtime/loss_report.h"

#include <gtest/gtest.h>

#include <vector>

namespace penstock {
namespace {

TEST(SumLossesTest, AddsInOrderAndMergesWhatTouches) {
  // In another order the double sum has other bits.
  const std::vector<std::vector<MicroBatchLoss>> losses = {
      {{1e16, 10, 0, 2}, {1.0, 11, 2, 4}},
      {{1.0, 12, 4, 6}, {-1e16, 13, 6, 8}},
  };
  const v1::StepInputs inputs = SumLosses(losses);
  EXPECT_EQ(inputs.loss_sum(), ((1e16 + 1.0) + 1.0) - 1e16);
  EXPECT_EQ(inputs.target_count(), 46u);
  ASSERT_EQ(inputs.samples_size(), 1);
  EXPECT_EQ(inputs.samples(0).begin(), 0u);
  EXPECT_EQ(inputs.samples(0).end(), 8u);
}

TEST(SumLossesTest, WhatIsMissingOrReadTwiceStaysVisible) {
  const v1::StepInputs gap = SumLosses({{{0, 1, 8, 10}, {0, 1, 0, 2}, {0, 1, 2, 4}}});
  ASSERT_EQ(gap.samples_size(), 2);
  EXPECT_EQ(gap.samples(0).end(), 4u);
  EXPECT_EQ(gap.samples(1).begin(), 8u);
  const v1::StepInputs twice = SumLosses({{{0, 1, 0, 4}}, {{0, 1, 2, 6}}});
  ASSERT_EQ(twice.samples_size(), 2);
  EXPECT_EQ(twice.samples(0).end(), 4u);
  EXPECT_EQ(twice.samples(1).begin(), 2u);
}

}  // namespace
}  // namespace penstock
