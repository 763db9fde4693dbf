// Penstock's GPT-2 and its optimizer against PyTorch's numbers (make_fixtures.py).
#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/base/status_macros.h"
#include "core/commit/decision.h"
#include "core/model/parameter_table.h"
#include "core/optimizer/adamw.h"
#include "core/optimizer/square_sum.h"
#include "gtest/gtest.h"
#include "services/storage/blobs.h"
#include "services/storage/safetensors.h"
#include "worker/model/testing/tensor_pipeline.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

// fp32 against PyTorch's float64. Of the largest element of each gradient.
constexpr double kLossTolerance = 1e-6;
constexpr double kGradientTolerance = 1e-5;
// After each of ten updates.
constexpr double kTrainingLossTolerance = 1e-5;
// Elements of the gradient that are next to zero take their sign, and so Adam's first steps, from rounding. All the
// others end within this share of a typical weight.
constexpr double kFinalWeightTolerance = 1e-4;

// A pipeline's stages and its tensor degree.
struct Cut {
  std::vector<BlockRange> stages;
  int tensor = 1;
};

class Gpt2Parity : public testing::TestWithParam<Cut> {
 protected:
  void SetUp() override {
    const std::string path = std::string(std::getenv("TEST_SRCDIR")) + "/" + std::getenv("TEST_WORKSPACE") +
                             "/tests/parity/fixtures/gpt2.safetensors";
    auto file = SafetensorsFile::Open(LocalDisk(), path);
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = std::make_unique<SafetensorsFile>(*std::move(file));
    spec_.set_family(v1::ModelSpec::FAMILY_GPT2);
    spec_.set_layers(static_cast<uint32_t>(Number("layers")));
    spec_.set_hidden(static_cast<uint32_t>(Number("hidden")));
    spec_.set_heads(static_cast<uint32_t>(Number("heads")));
    spec_.set_seq_length(static_cast<uint32_t>(Number("seq_length")));
    spec_.set_vocab_size(static_cast<uint32_t>(Number("vocab_size")));
    spec_.set_mlp_hidden(static_cast<uint32_t>(Number("mlp_hidden")));
    spec_.set_layer_norm_epsilon(Number("layer_norm_epsilon"));
    spec_.set_init_std(0.02);
    table_ = std::make_unique<ParameterTable>(ParameterTable::Create(spec_).value());
    pipeline_ = TensorPipeline::Create(spec_, *table_, {.stages = GetParam().stages, .micro_batch_size = 2, .slots = 2},
                                       GetParam().tensor)
                    .value();
  }

  double Number(const std::string& key) { return std::stod(file_->header().metadata().at(key)); }

  template <typename T>
  std::vector<T> Read(const std::string& name) {
    const SafetensorsEntry* entry = file_->header().Find(name);
    PENSTOCK_CHECK(entry != nullptr && DtypeBytes(entry->dtype) == sizeof(T));
    std::vector<T> values(entry->elements());
    const absl::Status status = file_->Read(name, 0, std::as_writable_bytes(std::span(values)));
    PENSTOCK_CHECK(status.ok());
    return values;
  }

  // The canonical space, put together from the tensors "prefix.NAME", whose shapes must be the table's.
  std::vector<float> ReadAll(const std::string& prefix) {
    std::vector<float> all;
    for (const Parameter& parameter : table_->parameters()) {
      const std::string name = prefix + "." + parameter.name;
      const std::vector<uint64_t> shape(parameter.shape.begin(), parameter.shape.end());
      EXPECT_EQ(file_->header().Find(name)->shape, shape) << name;
      const std::vector<float> values = Read<float>(name);
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }

  std::unique_ptr<SafetensorsFile> file_;
  v1::ModelSpec spec_;
  std::unique_ptr<ParameterTable> table_;
  std::unique_ptr<TensorPipeline> pipeline_;
};

// Parameter `parameter`'s part of the canonical space.
std::vector<double> Part(const std::vector<float>& all, const Parameter& parameter) {
  return {all.begin() + parameter.begin, all.begin() + parameter.end};
}

TEST_P(Gpt2Parity, LossAndEveryGradientEqualPyTorchs) {
  pipeline_->SetWeights(ReadAll("weights"));
  const auto result = pipeline_->Step(Read<int32_t>("tokens"), Read<int32_t>("targets"));
  ASSERT_TRUE(result.ok()) << result.status();
  const double loss = Read<double>("loss")[0];
  EXPECT_NEAR(result->loss.loss, loss, kLossTolerance * loss);
  EXPECT_EQ(result->loss.target_count, static_cast<int64_t>(Read<int32_t>("targets").size()) - 1);
  const std::vector<float> expected = ReadAll("gradients");
  for (const Parameter& parameter : table_->parameters()) {
    EXPECT_LT(RelativeError(Part(result->gradients, parameter), Part(expected, parameter)), kGradientTolerance)
        << parameter.name;
  }
}

// One training in this process, by the functions that the parameter service updates with.
class Training {
 public:
  Training(const ParameterTable& table, const v1::OptimizerSpec& optimizer, uint64_t steps, std::vector<float> weights)
      : table_(table),
        optimizer_(optimizer),
        steps_(steps),
        weights_(std::move(weights)),
        exp_avg_(weights_.size(), 0.0F),
        exp_avg_sq_(weights_.size(), 0.0F) {}

  const std::vector<float>& weights() const { return weights_; }

  v1::StepDecision Update(uint64_t step, const LocalPipeline::StepResult& result) {
    v1::PreparedStep prepared;
    prepared.set_step(step);
    prepared.mutable_inputs()->set_loss_sum(result.loss.loss);
    prepared.mutable_inputs()->set_target_count(static_cast<uint64_t>(result.loss.target_count));
    const std::span<const float> gradients = result.gradients;
    for (int64_t piece = 0; piece < table_.piece_count(); ++piece) {
      prepared.add_piece_square_sums(SumOfSquares(Of(gradients, table_.Piece(piece))));
    }
    const v1::StepDecision decision = Decide(optimizer_, steps_, {prepared}).value();
    for (const Parameter& parameter : table_.parameters()) {
      const AdamWParams params = {
          .learning_rate = decision.learning_rate(),
          .beta1 = static_cast<float>(optimizer_.beta1()),
          .beta2 = static_cast<float>(optimizer_.beta2()),
          .epsilon = static_cast<float>(optimizer_.epsilon()),
          .weight_decay = parameter.decay ? static_cast<float>(optimizer_.weight_decay()) : 0.0F,
          .gradient_scale = decision.gradient_scale(),
          .bias_correction1 = decision.bias_correction1(),
          .bias_correction2 = decision.bias_correction2()};
      AdamWUpdate(params, Of(gradients, parameter.range()), Of(std::span(weights_), parameter.range()),
                  Of(std::span(exp_avg_), parameter.range()), Of(std::span(exp_avg_sq_), parameter.range()));
    }
    return decision;
  }

 private:
  template <typename T>
  static std::span<T> Of(std::span<T> all, const ElementRange& range) {
    return all.subspan(static_cast<size_t>(range.begin), static_cast<size_t>(range.size()));
  }

  const ParameterTable& table_;
  const v1::OptimizerSpec optimizer_;
  const uint64_t steps_;
  std::vector<float> weights_;
  std::vector<float> exp_avg_;
  std::vector<float> exp_avg_sq_;
};

TEST_P(Gpt2Parity, ATrainingWithAdamWFollowsPyTorchs) {
  v1::OptimizerSpec optimizer;
  optimizer.set_type(v1::OptimizerSpec::TYPE_ADAMW);
  optimizer.set_learning_rate(Number("learning_rate"));
  optimizer.set_beta1(Number("beta1"));
  optimizer.set_beta2(Number("beta2"));
  optimizer.set_epsilon(Number("adam_epsilon"));
  optimizer.set_weight_decay(Number("weight_decay"));
  optimizer.set_grad_clip(Number("grad_clip"));
  optimizer.mutable_schedule()->set_type(v1::LearningRateSchedule::TYPE_LINEAR);
  optimizer.mutable_schedule()->set_warmup_steps(static_cast<uint64_t>(Number("warmup_steps")));
  optimizer.mutable_schedule()->set_final_ratio(Number("final_ratio"));

  const std::vector<double> losses = Read<double>("steps.losses");
  const std::vector<double> norms = Read<double>("steps.norms");
  const std::vector<int32_t> tokens = Read<int32_t>("steps.tokens");
  const std::vector<int32_t> targets = Read<int32_t>("steps.targets");
  const size_t steps = losses.size();
  const size_t size = tokens.size() / steps;
  Training training(*table_, optimizer, steps, ReadAll("weights"));
  for (size_t step = 0; step < steps; ++step) {
    pipeline_->SetWeights(training.weights());
    const auto result =
        pipeline_->Step(std::span(tokens).subspan(step * size, size), std::span(targets).subspan(step * size, size));
    ASSERT_TRUE(result.ok()) << result.status();
    const double loss = result->loss.loss / static_cast<double>(result->loss.target_count);
    EXPECT_NEAR(loss, losses[step], kTrainingLossTolerance * losses[step]) << "step " << step + 1;
    const v1::StepDecision decision = training.Update(step + 1, *result);
    EXPECT_NEAR(decision.gradient_norm(), norms[step], kTrainingLossTolerance * norms[step]) << "step " << step + 1;
  }
  EXPECT_LT(losses.back(), losses.front()) << "the fixture's training should learn something";

  const std::vector<float> expected = ReadAll("final_weights");
  for (const Parameter& parameter : table_->parameters()) {
    // Softmax doesn't see the keys' bias: its gradient is rounding alone, and Adam makes full steps of that.
    if (parameter.name.ends_with("attn.qkv.bias")) continue;
    EXPECT_LT(RelativeError(Part(training.weights(), parameter), Part(expected, parameter)), kFinalWeightTolerance)
        << parameter.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Stages, Gpt2Parity,
                         testing::Values(Cut{{{0, 4}}}, Cut{{{0, 2}, {2, 4}}}, Cut{{{0, 2}, {2, 4}}, 3}),
                         [](const auto& info) {
                           return "Depth" + std::to_string(info.param.stages.size()) + "Tensor" +
                                  std::to_string(info.param.tensor);
                         });

}  // namespace
}  // namespace penstock
