#include "worker/ops/linear_cross_entropy.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "worker/ops/reference/operations.h"
#include "worker/ops/testing/backends.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

constexpr int64_t kRows = 33;
constexpr int64_t kIn = 24;
// More than two of the CPU's slices, the last one short.
constexpr int64_t kVocabulary = 9001;

struct Expected {
  double loss = 0;
  std::vector<double> dx, dweight;
};

// By the references of the two operations that it is made of.
Expected Reference(const std::vector<double>& x, const std::vector<double>& weight,
                   const std::vector<int32_t>& targets) {
  const LinearShape linear = {.rows = kRows, .in = kIn, .out = kVocabulary, .layout = WeightLayout::kOutIn};
  const CrossEntropyShape loss = {.rows = kRows, .vocab_size = kVocabulary};
  const auto logits = reference::LinearForward(linear, x, weight, {});
  const auto gradients =
      reference::LinearBackward(linear, x, weight, reference::CrossEntropyBackward(loss, logits, targets));
  return {reference::CrossEntropyForward(loss, logits, targets), gradients.x, gradients.weight};
}

std::vector<int32_t> Targets() {
  auto targets = RandomTokens(kRows, kVocabulary, 2);
  targets[7] = kIgnoredTarget;
  targets[8] = 0;
  targets[9] = kVocabulary - 1;
  return targets;
}

class LinearCrossEntropyTest : public BackendTest {
 protected:
  // The whole vocabulary cut into `ranks`, as a tensor group would; gradients towards x added up. `Memory` has x and
  // the weights in the operation's type.
  template <typename Memory>
  void Check(DataType type, int ranks, double loss_tolerance, double tolerance, double dx_tolerance) {
    Backend* const backend = backend_.get();
    auto round = [type](std::vector<double> values) {
      if (type == DataType::kFloat32) return values;
      for (double& value : values) value = static_cast<double>(ToFloat(ToBfloat16(static_cast<float>(value))));
      return values;
    };
    const auto x = round(RandomValues(kRows * kIn, 3, 2.0)), w = round(RandomValues(kVocabulary * kIn, 4));
    const auto targets = Targets();
    const Expected expected = Reference(x, w, targets);
    const Memory x_(backend, ToFloats(x));
    const DeviceTokens targets_(backend, targets);
    const DeviceStructs<RowReduction> all(backend, ranks * kRows);
    std::vector<std::unique_ptr<LinearCrossEntropy>> heads;
    std::vector<LinearCrossEntropyShape> shapes;
    std::vector<Memory> weights;
    std::vector<std::unique_ptr<DeviceStructs<std::byte>>> logits;
    for (int rank = 0; rank < ranks; ++rank) {
      LinearCrossEntropyShape shape = {.rows = kRows, .in = kIn, .vocab_size = kVocabulary, .ranks = ranks};
      shape.type = type;
      shape.vocab_begin = kVocabulary * rank / ranks;
      shape.vocab_end = kVocabulary * (rank + 1) / ranks;
      shapes.push_back(shape);
      heads.push_back(backend->CreateLinearCrossEntropy(shape).value());
      weights.emplace_back(backend, ToFloats({w.begin() + shape.vocab_begin * kIn, w.begin() + shape.vocab_end * kIn}));
      logits.push_back(std::make_unique<DeviceStructs<std::byte>>(backend, heads.back()->logits_bytes()));
      ASSERT_TRUE(heads.back()
                      ->Forward(ContextFor(*heads.back()), x_.data(), weights.back().data(), targets_.data(),
                                logits.back()->data(), all.data() + rank * kRows)
                      .ok());
    }
    std::vector<double> dx(static_cast<size_t>(kRows * kIn)), dweight;
    for (size_t rank = 0; rank < heads.size(); ++rank) {
      // Twice: once written, once added to it.
      const DeviceStructs<LossSum> total(backend, 1);
      for (const GradientMode mode : {GradientMode::kWrite, GradientMode::kWrite, GradientMode::kAdd}) {
        ASSERT_TRUE(heads[rank]->Loss(ContextFor(*heads[rank]), all.data(), targets_.data(), total.data(), mode).ok());
      }
      const LossSum loss = total.Read()[0];
      EXPECT_EQ(loss.target_count, 2 * (kRows - 1));
      EXPECT_NEAR(loss.loss, 2 * expected.loss, 2 * loss_tolerance * expected.loss);
      const Memory dx_(backend, ToFloats(RandomValues(kRows * kIn, 5)));
      const DeviceFloats dweight_(backend, shapes[rank].columns() * kIn, 0.5F);
      ASSERT_TRUE(heads[rank]
                      ->Backward(ContextFor(*heads[rank]), x_.data(), weights[rank].data(), all.data(), targets_.data(),
                                 logits[rank]->data(), dx_.data(), dweight_.data(), GradientMode::kAdd)
                      .ok());
      const auto part = dx_.Read();
      for (size_t i = 0; i < part.size(); ++i) dx[i] += static_cast<double>(part[i]);
      for (const float value : dweight_.Read()) dweight.push_back(static_cast<double>(value) - 0.5);
    }
    EXPECT_LT(RelativeError(dx, expected.dx), dx_tolerance);
    EXPECT_LT(RelativeError(dweight, expected.dweight), tolerance);
  }
};

TEST_P(LinearCrossEntropyTest, MatchesTheReference) {
  Check<DeviceFloats>(DataType::kFloat32, 1, 1e-5, 1e-5, 1e-5);
  Check<DeviceFloats>(DataType::kFloat32, 3, 1e-5, 1e-5, 1e-5);
}

TEST_P(LinearCrossEntropyTest, MatchesTheReferenceInBf16) {
  // Probabilities are rounded to 2^-8 of each before they are summed up, dx once more; on a GPU logits of up to 10
  // before.
  const bool gpu = !backend_->host_memory();
  const double loss = gpu ? 0x1p-10 : 1e-5;
  Check<DeviceBfloats>(DataType::kBfloat16, 1, loss, gpu ? 0x1p-6 : 0x1p-8, gpu ? 0x1p-6 : 0x1p-7);
  Check<DeviceBfloats>(DataType::kBfloat16, 3, loss, gpu ? 0x1p-6 : 0x1p-8, 0x1p-6);
}

TEST_P(LinearCrossEntropyTest, BrokenLogitsShowInTheLoss) {
  LinearCrossEntropyShape shape = {.rows = 1, .in = 1, .vocab_size = 20, .vocab_end = 20};
  const auto head = backend_->CreateLinearCrossEntropy(shape).value();
  const DeviceTokens target(backend_.get(), {0});
  const DeviceFloats x(backend_.get(), {1.0F});
  const DeviceStructs<std::byte> logits(backend_.get(), head->logits_bytes());
  for (const float broken : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> values(20, 0.0F);
    values[18] = broken;
    const DeviceFloats weight(backend_.get(), values);
    const DeviceStructs<RowReduction> row(backend_.get(), 1);
    ASSERT_TRUE(
        head->Forward(ContextFor(*head), x.data(), weight.data(), target.data(), logits.data(), row.data()).ok());
    const DeviceStructs<LossSum> total(backend_.get(), 1);
    ASSERT_TRUE(head->Loss(ContextFor(*head), row.data(), target.data(), total.data(), GradientMode::kWrite).ok());
    EXPECT_FALSE(std::isfinite(total.Read()[0].loss));
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, LinearCrossEntropyTest, testing::ValuesIn(AllBackends()), BackendName);

}  // namespace
}  // namespace penstock
