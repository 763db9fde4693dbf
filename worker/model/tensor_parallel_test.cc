// A whole model split over tensor ranks, each a thread of this process, against one rank and against the reference in
// double.
#include <cmath>
#include <vector>

#include "core/model/test_gpt2.h"
#include "core/random/dropout_rule.h"
#include "gtest/gtest.h"
#include "worker/model/stage_model.h"
#include "worker/model/testing/reference_gpt2.h"
#include "worker/model/testing/tensor_pipeline.h"
#include "worker/ops/cpu/cpu_backend.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

class TensorParallelTest : public testing::Test {
 protected:
  static constexpr uint64_t kFirstSample = 40;
  static constexpr uint64_t kSeed = 5;

  struct Run {
    LocalPipeline::StepResult step;
    LossSum evaluated;
  };

  // Of two steps, of which the second finds dirty memory.
  Run Step(int degree, const std::vector<BlockRange>& stages, double dropout = 0) {
    const auto pipeline =
        TensorPipeline::Create(
            spec_, table_,
            {.stages = stages, .micro_batch_size = 2, .first_sample = kFirstSample, .dropout = dropout, .seed = kSeed},
            degree)
            .value();
    pipeline->SetWeights(ToFloats(weights_));
    pipeline->Step(tokens_, targets_).value();
    return {pipeline->Step(tokens_, targets_).value(), pipeline->Evaluate(tokens_, targets_).value()};
  }

  BlockRange All() const { return {0, static_cast<int>(table_.blocks().size())}; }

  // 4 heads; a vocabulary that neither 2 nor 4 divides.
  const v1::ModelSpec spec_ =
      TestGpt2({.layers = 2, .hidden = 8, .heads = 4, .seq_length = 5, .vocab_size = 11, .mlp_hidden = 12});
  const ParameterTable table_ = ParameterTable::Create(spec_).value();
  const std::vector<double> weights_ = RandomValues(table_.size(), 7, 0.5);
  const std::vector<int32_t> tokens_ = RandomTokens(4 * 5, 11, 1);
  const std::vector<int32_t> targets_ = [] {
    auto targets = RandomTokens(4 * 5, 11, 2);
    targets[3] = kIgnoredTarget;
    return targets;
  }();
};

TEST_F(TensorParallelTest, EveryGradientMatchesFiniteDifferencesInDouble) {
  const auto loss = [&](const auto& w) { return reference::Gpt2Loss(spec_, table_, w, tokens_, targets_); };
  const auto expected = NumericalGradient(loss, weights_);
  for (const int degree : {1, 2, 4}) {
    const Run run = Step(degree, {All()});
    EXPECT_EQ(run.step.loss.target_count, 19);
    EXPECT_NEAR(run.step.loss.loss, loss(weights_), 1e-6 * loss(weights_));
    EXPECT_EQ(run.evaluated.loss, run.step.loss.loss);
    for (const Parameter& parameter : table_.parameters()) {
      const auto part = [&](const auto& all) {
        return std::vector(all.begin() + parameter.begin, all.begin() + parameter.end);
      };
      EXPECT_LT(RelativeError(part(run.step.gradients), part(expected)), 1e-5)
          << parameter.name << ", degree " << degree;
    }
  }
}

TEST_F(TensorParallelTest, WithDropoutEveryGradientMatchesFiniteDifferencesInDouble) {
  const reference::Gpt2Dropout dropout = {.rule = DropoutRuleOf(0.3, kSeed), .first_sample = kFirstSample};
  const auto loss = [&](const auto& w) { return reference::Gpt2Loss(spec_, table_, w, tokens_, targets_, dropout); };
  const auto expected = NumericalGradient(loss, weights_);
  for (const int degree : {1, 2, 4}) {
    const Run run = Step(degree, {All()}, 0.3);
    EXPECT_EQ(run.step.loss.target_count, 19);
    EXPECT_NEAR(run.step.loss.loss, loss(weights_), 1e-6 * loss(weights_));
    EXPECT_NEAR(run.evaluated.loss, reference::Gpt2Loss(spec_, table_, weights_, tokens_, targets_),
                1e-6 * run.evaluated.loss)
        << "nothing is dropped in validation";
    for (const Parameter& parameter : table_.parameters()) {
      const auto part = [&](const auto& all) {
        return std::vector(all.begin() + parameter.begin, all.begin() + parameter.end);
      };
      EXPECT_LT(RelativeError(part(run.step.gradients), part(expected)), 1e-5)
          << parameter.name << ", degree " << degree;
    }
  }
}

TEST_F(TensorParallelTest, DepthChangesNoBit) {
  for (const int degree : {2, 4}) {
    const Run whole = Step(degree, {All()});
    const Run halves = Step(degree, {{0, 2}, {2, 4}});
    EXPECT_TRUE(whole.step == halves.step) << "degree " << degree;
  }
}

TEST_F(TensorParallelTest, TheNormOfTheGradientIsThatOfOneRank) {
  const auto norm = [&](int degree) {
    double sum = 0;
    for (const float value : Step(degree, {All()}).step.gradients) sum += static_cast<double>(value) * value;
    return std::sqrt(sum);
  };
  const double one = norm(1);
  EXPECT_NEAR(norm(2), one, 1e-6 * one);
  EXPECT_NEAR(norm(4), one, 1e-6 * one);
}

TEST_F(TensorParallelTest, EachRankHoldsItsShareAlone) {
  const auto backend = CreateCpuBackend({.threads = 1}).value();
  const auto bytes = [&](TensorShard tensor) {
    MemoryPlan plan;
    const auto model = CreateStageModel(spec_, table_, {.blocks = {1, 2}, .micro_batch_size = 1, .tensor = tensor},
                                        backend.get(), &plan);
    EXPECT_TRUE(model.ok()) << model.status();
    return plan.BytesOf(MemoryClass::kParameter) / static_cast<int64_t>(sizeof(float));
  };
  const int64_t shared = 6 * 8;
  EXPECT_NEAR(static_cast<double>(bytes({.degree = 4, .rank = 3})),
              static_cast<double>(shared + (table_.blocks()[1].range().size() - shared) / 4), kRegionAlignment);
  MemoryPlan plan;
  for (const TensorShard tensor :
       {TensorShard{.degree = 3}, TensorShard{.degree = 0}, TensorShard{.degree = 2, .rank = 2}}) {
    EXPECT_EQ(CreateStageModel(spec_, table_, {.blocks = All(), .micro_batch_size = 1, .tensor = tensor}, backend.get(),
                               &plan)
                  .status()
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace penstock
