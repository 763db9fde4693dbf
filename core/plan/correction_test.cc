#include "core/plan/correction.h"

#include <cmath>

#include "gtest/gtest.h"

namespace penstock {
namespace {

Prediction Predicted(double compute, double bubble, double exchange) {
  Prediction prediction;
  prediction.plan.set_step_seconds(compute + bubble + exchange);
  prediction.leader_compute_seconds = compute;
  prediction.leader_exchange_seconds = exchange;
  return prediction;
}

TEST(CorrectionTest, WhatCameOutAsPredictedChangesNothing) {
  const CostCorrection corrected = Corrected(Predicted(2, 0.5, 0.25), {1.5, 0.8}, {2.75, 2});
  EXPECT_NEAR(corrected.compute, 1.5, 1e-12);
  EXPECT_NEAR(corrected.exchange, 0.8, 1e-12);
}

TEST(CorrectionTest, PassesAndExchangeAreToldApart) {
  // Passes take twice as long, and so does the bubble; the exchange four times.
  const CostCorrection corrected = Corrected(Predicted(2, 0.5, 0.25), {1, 1}, {5 + 1, 4});
  EXPECT_NEAR(corrected.compute, 2, 1e-12);
  EXPECT_NEAR(corrected.exchange, 2, 1e-12);
}

TEST(CorrectionTest, NothingIsLearntWhereRanksShareCores) {
  Prediction prediction = Predicted(2, 0.5, 0.25);
  prediction.costs.simulation.host_cores = {2};
  StageCosts stage;
  stage.loads = {{.host = 0, .cores = 1, .exchange_cores = 0}};
  prediction.costs.simulation.stages = {stage, stage};
  EXPECT_NEAR(Corrected(prediction, {1, 1}, {6, 4}).compute, 2, 1e-12);
  prediction.costs.simulation.stages.push_back(stage);
  EXPECT_EQ(Corrected(prediction, {1, 1}, {6, 4}).compute, 1);
}

TEST(CorrectionTest, StaysWithinBoundsAndIgnoresNonsense) {
  const CostCorrection wild = Corrected(Predicted(1, 0, 1), {1, 1}, {1e9, 1e6});
  EXPECT_EQ(wild.compute, kCorrectionMax);
  EXPECT_LE(wild.exchange, kCorrectionMax);
  // A step shorter than its passes: the exchange is as cheap as is believed.
  EXPECT_EQ(Corrected(Predicted(1, 0, 1), {1, 1}, {0.5, 1}).exchange, std::sqrt(1 / kCorrectionMax));
  EXPECT_EQ(Corrected(Predicted(1, 0, 1), {2, 3}, {0, 0}).compute, 2);
  EXPECT_EQ(Corrected(Predicted(0, 0, 0), {2, 3}, {1, 1}).exchange, 3);
}

}  // namespace
}  // namespace penstock
