#include "worker/model/stage_model.h"

#include <cmath>
#include <limits>
#include <vector>

#include "core/base/bfloat16.h"
#include "core/model/test_gpt2.h"
#include "gtest/gtest.h"
#include "worker/model/testing/local_pipeline.h"
#include "worker/model/testing/reference_gpt2.h"
#include "worker/ops/cpu/cpu_backend.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

// Far from the initial values on purpose: biases and norms that aren't 0 and 1 show what they are mixed up with.
std::vector<double> Weights(const ParameterTable& table) { return RandomValues(table.size(), 7, 0.5); }

// Cuts all blocks at the given ones.
std::vector<BlockRange> Stages(const ParameterTable& table, const std::vector<int>& cuts) {
  std::vector<BlockRange> stages;
  int begin = 0;
  for (const int cut : cuts) {
    stages.push_back({begin, cut});
    begin = cut;
  }
  stages.push_back({begin, static_cast<int>(table.blocks().size())});
  return stages;
}

TEST(StageModel, EveryGradientMatchesFiniteDifferencesInDouble) {
  const v1::ModelSpec spec =
      TestGpt2({.layers = 2, .hidden = 6, .heads = 2, .seq_length = 5, .vocab_size = 11, .mlp_hidden = 13});
  const ParameterTable table = ParameterTable::Create(spec).value();
  const auto weights = Weights(table);
  const auto tokens = RandomTokens(4 * 5, 11, 1);
  auto targets = RandomTokens(4 * 5, 11, 2);
  targets[3] = kIgnoredTarget;
  const auto loss = [&](const auto& w) { return reference::Gpt2Loss(spec, table, w, tokens, targets); };
  const auto expected = NumericalGradient(loss, weights);

  const auto backend = CreateCpuBackend({.threads = 2}).value();
  const auto pipeline =
      LocalPipeline::Create(spec, table, {.stages = Stages(table, {}), .micro_batch_size = 2}, backend.get()).value();
  pipeline->SetWeights(ToFloats(weights));
  const auto result = pipeline->Step(tokens, targets).value();

  EXPECT_EQ(result.loss.target_count, 19);
  EXPECT_NEAR(result.loss.loss, loss(weights), 1e-6 * loss(weights));
  for (const Parameter& parameter : table.parameters()) {
    const auto part = [&](const auto& all) {
      return std::vector(all.begin() + parameter.begin, all.begin() + parameter.end);
    };
    // Keys' biases have no gradient at all: softmax doesn't see them. So the share is of the larger of all.
    EXPECT_LT(RelativeError(part(result.gradients), part(expected)), 1e-5) << parameter.name;
  }
}

class StageModelInType : public testing::TestWithParam<DataType> {};

TEST_P(StageModelInType, DepthAndMicroBatchesInFlightChangeNoBit) {
  // Widths that no vector divides; parameters begin at other alignments in each cut.
  const v1::ModelSpec spec =
      TestGpt2({.layers = 4, .hidden = 21, .heads = 3, .seq_length = 17, .vocab_size = 37, .mlp_hidden = 50});
  const ParameterTable table = ParameterTable::Create(spec).value();
  const auto weights = ToFloats(Weights(table));
  const auto tokens = RandomTokens(8 * 17, 37, 1);
  const auto targets = RandomTokens(8 * 17, 37, 2);
  const auto backend = CreateCpuBackend({.threads = 2}).value();
  double dropout = 0;
  const auto run = [&](const std::vector<int>& cuts, int slots) {
    const auto pipeline = LocalPipeline::Create(spec, table,
                                                {.stages = Stages(table, cuts),
                                                 .micro_batch_size = 2,
                                                 .slots = slots,
                                                 .type = GetParam(),
                                                 .first_sample = 100,
                                                 .dropout = dropout,
                                                 .seed = 3},
                                                backend.get())
                              .value();
    pipeline->SetWeights(weights);
    pipeline->Step(tokens, targets).value();  // the second step finds dirty memory
    auto result = pipeline->Step(tokens, targets).value();
    const LossSum evaluated = pipeline->Evaluate(tokens, targets).value();
    EXPECT_EQ(evaluated.loss == result.loss.loss, dropout == 0);
    EXPECT_EQ(evaluated.target_count, 8 * 17);
    return result;
  };
  const LocalPipeline::StepResult once = run({}, 1);
  EXPECT_TRUE(std::isfinite(once.loss.loss));
  const std::vector<std::vector<int>> cuts = {{}, {2}, {4}, {1, 5}, {2, 3, 4}, {1, 2, 3, 4, 5}};
  for (const std::vector<int>& cut : cuts) {
    for (const int slots : {1, 2, 4}) {
      EXPECT_TRUE(run(cut, slots) == once) << cut.size() + 1 << " stages, " << slots << " slots";
    }
  }
  dropout = 0.1;
  const LocalPipeline::StepResult dropped = run({}, 1);
  EXPECT_NE(dropped.loss.loss, once.loss.loss);
  for (const std::vector<int>& cut : cuts) EXPECT_TRUE(run(cut, 2) == dropped) << cut.size() + 1 << " stages";
}

INSTANTIATE_TEST_SUITE_P(Types, StageModelInType, testing::Values(DataType::kFloat32, DataType::kBfloat16),
                         [](const auto& info) { return DataTypeName(info.param); });

// Both against the double reference, on weights that are exact in bf16: what is left are the roundings on the way, of
// which each is up to 2^-8.
TEST(StageModel, InBf16LossAndGradientsAreTheReferencesButForRounding) {
  const v1::ModelSpec spec =
      TestGpt2({.layers = 2, .hidden = 32, .heads = 2, .seq_length = 24, .vocab_size = 61, .mlp_hidden = 96});
  const ParameterTable table = ParameterTable::Create(spec).value();
  auto weights = RandomValues(table.size(), 7, 0.3);
  for (double& weight : weights) weight = static_cast<double>(ToFloat(ToBfloat16(static_cast<float>(weight))));
  const auto tokens = RandomTokens(4 * 24, 61, 1);
  const auto targets = RandomTokens(4 * 24, 61, 2);
  const auto backend = CreateCpuBackend({.threads = 2}).value();
  std::vector<LocalPipeline::StepResult> results;
  for (const DataType type : {DataType::kFloat32, DataType::kBfloat16}) {
    const auto pipeline =
        LocalPipeline::Create(spec, table, {.stages = Stages(table, {}), .micro_batch_size = 2, .type = type},
                              backend.get())
            .value();
    pipeline->SetWeights(ToFloats(weights));
    results.push_back(pipeline->Step(tokens, targets).value());
  }
  const double loss = reference::Gpt2Loss(spec, table, weights, tokens, targets);
  EXPECT_NEAR(results[0].loss.loss, loss, 1e-6 * loss);
  EXPECT_NEAR(results[1].loss.loss, loss, 0.01 * loss);
  double difference = 0, norm = 0;
  for (size_t i = 0; i < results[0].gradients.size(); ++i) {
    const double exact = static_cast<double>(results[0].gradients[i]);
    difference += std::pow(static_cast<double>(results[1].gradients[i]) - exact, 2);
    norm += exact * exact;
  }
  EXPECT_LT(std::sqrt(difference / norm), 0.03);
  EXPECT_GT(std::sqrt(difference / norm), 1e-4) << "bf16 was asked for";
}

TEST(StageModel, LongRowsOfLogitsInPartsGiveTheSameLossAsOneByOne) {
  // 1500 rows a micro-batch: more than the head takes at a time.
  const v1::ModelSpec spec =
      TestGpt2({.layers = 1, .hidden = 8, .heads = 2, .seq_length = 750, .vocab_size = 19, .mlp_hidden = 32});
  const ParameterTable table = ParameterTable::Create(spec).value();
  const auto weights = Weights(table);
  const auto tokens = RandomTokens(2 * 750, 19, 1);
  const auto targets = RandomTokens(2 * 750, 19, 2);
  const auto backend = CreateCpuBackend({.threads = 2}).value();
  std::vector<LocalPipeline::StepResult> results;
  for (const int64_t micro_batch : {1, 2}) {
    const auto pipeline =
        LocalPipeline::Create(spec, table, {.stages = Stages(table, {}), .micro_batch_size = micro_batch},
                              backend.get())
            .value();
    pipeline->SetWeights(ToFloats(weights));
    results.push_back(pipeline->Step(tokens, targets).value());
  }
  EXPECT_NEAR(results[0].loss.loss, results[1].loss.loss, 1e-6 * results[0].loss.loss);
  const std::vector<double> expected(results[0].gradients.begin(), results[0].gradients.end());
  EXPECT_LT(RelativeError(results[1].gradients, expected), 1e-5);
}

class StageModelMisuse : public testing::Test {
 protected:
  void SetUp() override {
    backend_ = CreateCpuBackend({.threads = 1}).value();
    MemoryPlan plan;
    model_ =
        CreateStageModel(spec_, table_, {.blocks = {0, 4}, .micro_batch_size = 2, .slots = 2}, backend_.get(), &plan)
            .value();
    arena_.emplace(Arena::Allocate(plan, backend_.get()).value());
    model_->Bind(*arena_);
  }

  ForwardArgs Args(std::span<const int32_t> tokens) { return {.tokens = tokens, .targets = targets_}; }

  const v1::ModelSpec spec_ =
      TestGpt2({.layers = 2, .hidden = 8, .heads = 2, .seq_length = 3, .vocab_size = 5, .mlp_hidden = 32});
  const ParameterTable table_ = ParameterTable::Create(spec_).value();
  const std::vector<int32_t> tokens_ = RandomTokens(6, 5, 1);
  const std::vector<int32_t> targets_ = RandomTokens(6, 5, 2);
  std::unique_ptr<Backend> backend_;
  std::optional<Arena> arena_;
  std::unique_ptr<StageModel> model_;
};

TEST_F(StageModelMisuse, ASlotHoldsOneMicroBatch) {
  EXPECT_EQ(model_->Backward(0, {}, {}).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(model_->Forward(0, Args(tokens_)).ok());
  EXPECT_EQ(model_->Forward(0, Args(tokens_)).status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(model_->Forward(1, Args(tokens_)).ok());
  EXPECT_TRUE(model_->Backward(0, {}, {}).ok());
  EXPECT_EQ(model_->Backward(0, {}, {}).code(), absl::StatusCode::kFailedPrecondition);
  model_->Reset();
  EXPECT_EQ(model_->Backward(1, {}, {}).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(model_->Forward(2, Args(tokens_)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(model_->Forward(-1, Args(tokens_)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(StageModelMisuse, ValidationKeepsNothing) {
  for (float& value : model_->UntiedGradients()) value = 2.0F;
  for (float& value : model_->TiedGradients(TiedUse::kHead)) value = 3.0F;
  ForwardArgs args = Args(tokens_);
  args.training = false;
  ASSERT_TRUE(model_->Forward(0, args).ok());
  ASSERT_TRUE(model_->Forward(0, args).ok());
  EXPECT_EQ(model_->Backward(0, {}, {}).code(), absl::StatusCode::kFailedPrecondition);
  for (const float value : model_->UntiedGradients()) EXPECT_EQ(value, 2.0F);
  for (const float value : model_->TiedGradients(TiedUse::kHead)) EXPECT_EQ(value, 3.0F);
}

TEST_F(StageModelMisuse, WrongSizesAndTokensAreNamed) {
  const std::vector<int32_t> short_one(5, 0);
  EXPECT_EQ(model_->Forward(0, Args(short_one)).status().message(), "tokens has 5 elements; this stage expects 6");
  const std::vector<int32_t> outside = {0, 1, 2, 3, 5, 0};
  EXPECT_EQ(model_->Forward(0, Args(outside)).status().code(), absl::StatusCode::kInvalidArgument);
  std::vector<std::byte> surplus(48);
  ForwardArgs args = Args(tokens_);
  args.output = surplus;
  EXPECT_EQ(model_->Forward(0, args).status().message(), "output has 48 bytes; this stage expects 0");
  EXPECT_TRUE(model_->Forward(0, Args(tokens_)).ok()) << "refused calls leave the slot free";
}

TEST_F(StageModelMisuse, StagesThatCannotBeAreRefused) {
  MemoryPlan plan;
  for (const StageOptions& options :
       {StageOptions{.blocks = {0, 5}, .micro_batch_size = 1}, StageOptions{.blocks = {2, 2}, .micro_batch_size = 1},
        StageOptions{.blocks = {0, 4}, .micro_batch_size = 0},
        StageOptions{.blocks = {0, 4}, .micro_batch_size = 1, .slots = 0}}) {
    EXPECT_EQ(CreateStageModel(spec_, table_, options, backend_.get(), &plan).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(StageModelMisuse, AStageInTheMiddleHoldsItsOwnParametersAlone) {
  MemoryPlan plan;
  const auto middle =
      CreateStageModel(spec_, table_, {.blocks = {1, 2}, .micro_batch_size = 2}, backend_.get(), &plan).value();
  const int64_t layer_bytes = table_.blocks()[1].range().size() * 4;
  EXPECT_LT(plan.BytesOf(MemoryClass::kParameter) - layer_bytes, kRegionAlignment);
  EXPECT_EQ(plan.BytesOf(MemoryClass::kGradient), plan.BytesOf(MemoryClass::kParameter));
  const Arena arena = Arena::Allocate(plan, backend_.get()).value();
  middle->Bind(arena);
  EXPECT_EQ(middle->InputBuffer(0).size(), 48u * sizeof(float));
  EXPECT_TRUE(middle->TiedGradients(TiedUse::kHead).empty());
}

}  // namespace
}  // namespace penstock
