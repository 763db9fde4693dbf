#include "core/optimizer/learning_rate.h"

#include "gtest/gtest.h"

namespace penstock {
namespace {

v1::OptimizerSpec Optimizer(v1::LearningRateSchedule::Type type, uint64_t warmup, double final_ratio) {
  v1::OptimizerSpec optimizer;
  optimizer.set_learning_rate(0.5);
  optimizer.mutable_schedule()->set_type(type);
  optimizer.mutable_schedule()->set_warmup_steps(warmup);
  optimizer.mutable_schedule()->set_final_ratio(final_ratio);
  return optimizer;
}

TEST(LearningRateTest, WarmUpIsLinear) {
  for (const auto type : {v1::LearningRateSchedule::TYPE_CONSTANT, v1::LearningRateSchedule::TYPE_LINEAR,
                          v1::LearningRateSchedule::TYPE_COSINE}) {
    const v1::OptimizerSpec optimizer = Optimizer(type, 10, 0.1);
    EXPECT_DOUBLE_EQ(LearningRate(optimizer, 100, 1), 0.05);
    EXPECT_DOUBLE_EQ(LearningRate(optimizer, 100, 5), 0.25);
    EXPECT_DOUBLE_EQ(LearningRate(optimizer, 100, 10), 0.5);
  }
}

TEST(LearningRateTest, ConstantStays) {
  const v1::OptimizerSpec optimizer = Optimizer(v1::LearningRateSchedule::TYPE_CONSTANT, 0, 1);
  for (const uint64_t step : {1u, 50u, 100u, 1000u}) EXPECT_EQ(LearningRate(optimizer, 100, step), 0.5);
}

TEST(LearningRateTest, LinearAndCosineMeetAtHalfWay) {
  for (const auto type : {v1::LearningRateSchedule::TYPE_LINEAR, v1::LearningRateSchedule::TYPE_COSINE}) {
    const v1::OptimizerSpec optimizer = Optimizer(type, 20, 0.1);
    EXPECT_DOUBLE_EQ(LearningRate(optimizer, 100, 20), 0.5);
    EXPECT_NEAR(LearningRate(optimizer, 100, 60), 0.5 * 0.55, 1e-12);
    EXPECT_NEAR(LearningRate(optimizer, 100, 100), 0.05, 1e-12);
    EXPECT_NEAR(LearningRate(optimizer, 100, 500), 0.05, 1e-12);
  }
  const v1::OptimizerSpec linear = Optimizer(v1::LearningRateSchedule::TYPE_LINEAR, 0, 0);
  EXPECT_NEAR(LearningRate(linear, 100, 25), 0.375, 1e-12);
  const v1::OptimizerSpec cosine = Optimizer(v1::LearningRateSchedule::TYPE_COSINE, 0, 0);
  // (1 + cos(pi / 4)) / 2 of the rate.
  EXPECT_NEAR(LearningRate(cosine, 100, 25), 0.5 * 0.8535533905932737, 1e-12);
}

TEST(LearningRateTest, WarmUpMayTakeAllSteps) {
  const v1::OptimizerSpec optimizer = Optimizer(v1::LearningRateSchedule::TYPE_COSINE, 100, 0.1);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, 100, 100), 0.5);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, 100, 50), 0.25);
}

}  // namespace
}  // namespace penstock
