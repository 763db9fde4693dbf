#include "worker/ops/linear_cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/bfloat16.h"
#include "gtest/gtest.h"
#include "worker/ops/reference/operations.h"
#include "worker/ops/testing/backends.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

struct Case {
  int64_t rows = 33;
  int64_t in = 24;
  // Where the vocabulary is cut: a tensor rank has [cuts[i], cuts[i + 1]). By itself more than two of the CPU's slices,
  // the last one short.
  std::vector<int64_t> cuts = {0, 9001};
  // Added to every logit: the maximum has to be taken out.
  double offset = 0;

  int ranks() const { return static_cast<int>(cuts.size()) - 1; }
  int64_t vocabulary() const { return cuts.back(); }
};

struct Tolerances {
  double loss = 0;
  double dx = 0;
  double dweight = 0;
};

struct Expected {
  double loss = 0;
  std::vector<double> dx, dweight;
};

// By the references of the two operations that it is made of.
Expected Reference(const Case& c, const std::vector<double>& x, const std::vector<double>& weight,
                   const std::vector<int32_t>& targets) {
  const LinearShape linear = {.rows = c.rows, .in = c.in, .out = c.vocabulary(), .layout = WeightLayout::kOutIn};
  const reference::CrossEntropyShape loss = {.rows = c.rows, .vocab_size = c.vocabulary()};
  const auto logits = reference::LinearForward(linear, x, weight, {});
  const auto gradients =
      reference::LinearBackward(linear, x, weight, reference::CrossEntropyBackward(loss, logits, targets));
  return {reference::CrossEntropyForward(loss, logits, targets), gradients.x, gradients.weight};
}

std::vector<int32_t> Targets(const Case& c) {
  auto targets = RandomTokens(c.rows, c.vocabulary(), 2);
  if (c.rows < 10) return targets;
  targets[7] = kIgnoredTarget;
  targets[8] = 0;
  targets[9] = static_cast<int32_t>(c.vocabulary() - 1);
  return targets;
}

std::vector<double> Rounded(DataType type, std::vector<double> values) {
  for (double& value : values) {
    const auto narrow = static_cast<float>(value);
    value = static_cast<double>(type == DataType::kFloat32 ? narrow : ToFloat(ToBfloat16(narrow)));
  }
  return values;
}

TEST(CrossEntropyReference, GradientMatchesFiniteDifferences) {
  const reference::CrossEntropyShape shape = {.rows = 4, .vocab_size = 5};
  const auto logits = RandomValues(20, 1, 3.0);
  const std::vector<int32_t> targets = {0, 4, kIgnoredTarget, 2};
  const auto numerical =
      NumericalGradient([&](const auto& v) { return reference::CrossEntropyForward(shape, v, targets); }, logits);
  EXPECT_LT(RelativeError(reference::CrossEntropyBackward(shape, logits, targets), numerical),
            kFiniteDifferenceTolerance);
}

class LinearCrossEntropyTest : public BackendTest {
 protected:
  // Gradients towards x added up over the ranks, as a tensor group would. `Memory` has x and the weights in the
  // operation's type.
  template <typename Memory>
  void Check(DataType type, const Case& c, const Tolerances& tolerances) {
    SCOPED_TRACE(testing::Message() << c.rows << " rows, " << c.vocabulary() << " tokens, " << c.ranks() << " ranks");
    Backend* const backend = backend_.get();
    auto x = Rounded(type, RandomValues(c.rows * c.in, 3, 2.0)),
         w = Rounded(type, RandomValues(c.vocabulary() * c.in, 4));
    if (c.offset != 0) {
      for (int64_t row = 0; row < c.rows; ++row) x[static_cast<size_t>(row * c.in)] = 1;
      for (int64_t token = 0; token < c.vocabulary(); ++token) w[static_cast<size_t>(token * c.in)] = c.offset;
    }
    const auto targets = Targets(c);
    const Expected expected = Reference(c, x, w, targets);
    const Memory x_(backend, ToFloats(x));
    const DeviceTokens targets_(backend, targets);
    const DeviceStructs<RowReduction> all(backend, c.ranks() * c.rows);
    std::vector<std::unique_ptr<LinearCrossEntropy>> heads;
    std::vector<LinearCrossEntropyShape> shapes;
    std::vector<Memory> weights;
    std::vector<std::unique_ptr<DeviceStructs<std::byte>>> logits;
    for (int rank = 0; rank < c.ranks(); ++rank) {
      LinearCrossEntropyShape shape = {.rows = c.rows, .in = c.in, .vocab_size = c.vocabulary(), .ranks = c.ranks()};
      shape.type = type;
      shape.vocab_begin = c.cuts[static_cast<size_t>(rank)];
      shape.vocab_end = c.cuts[static_cast<size_t>(rank) + 1];
      shapes.push_back(shape);
      heads.push_back(backend->CreateLinearCrossEntropy(shape).value());
      weights.emplace_back(backend,
                           ToFloats({w.begin() + shape.vocab_begin * c.in, w.begin() + shape.vocab_end * c.in}));
      logits.push_back(std::make_unique<DeviceStructs<std::byte>>(backend, heads.back()->logits_bytes()));
      ASSERT_TRUE(heads.back()
                      ->Forward(ContextFor(*heads.back()), x_.data(), weights.back().data(), targets_.data(),
                                logits.back()->data(), all.data() + rank * c.rows, HeadPass::kTraining)
                      .ok());
    }
    std::vector<double> dx(x.size()), dweight;
    const auto counted = std::count_if(targets.begin(), targets.end(), [](int32_t t) { return t != kIgnoredTarget; });
    double first_loss = 0;
    for (size_t rank = 0; rank < heads.size(); ++rank) {
      // Twice: once written, once added to it.
      const DeviceStructs<LossSum> total(backend, 1);
      for (const GradientMode mode : {GradientMode::kWrite, GradientMode::kWrite, GradientMode::kAdd}) {
        ASSERT_TRUE(heads[rank]->Loss(ContextFor(*heads[rank]), all.data(), targets_.data(), total.data(), mode).ok());
      }
      const LossSum loss = total.Read()[0];
      EXPECT_EQ(loss.target_count, 2 * counted);
      EXPECT_NEAR(loss.loss, 2 * expected.loss, 2 * tolerances.loss * (1 + expected.loss));
      if (rank == 0) first_loss = loss.loss;
      EXPECT_EQ(loss.loss, first_loss) << "the same bits on every rank";
      const Memory dx_(backend, ToFloats(RandomValues(c.rows * c.in, 5)));
      const DeviceFloats dweight_(backend, shapes[rank].columns() * c.in, 0.5F);
      ASSERT_TRUE(heads[rank]
                      ->Backward(ContextFor(*heads[rank]), x_.data(), weights[rank].data(), all.data(), targets_.data(),
                                 logits[rank]->data(), dx_.data(), dweight_.data(), GradientMode::kAdd)
                      .ok());
      const auto part = dx_.Read();
      for (size_t i = 0; i < part.size(); ++i) dx[i] += static_cast<double>(part[i]);
      for (const float value : dweight_.Read()) dweight.push_back(static_cast<double>(value) - 0.5);
    }
    EXPECT_LT(RelativeError(dx, expected.dx), tolerances.dx);
    EXPECT_LT(RelativeError(dweight, expected.dweight), tolerances.dweight);
  }
};

TEST_P(LinearCrossEntropyTest, MatchesTheReference) {
  const Tolerances tolerances = {.loss = 1e-5, .dx = 1e-5, .dweight = 1e-5};
  for (const Case& c : {Case{}, Case{.cuts = {0, 3000, 6000, 9001}}, Case{.rows = 19, .in = 5, .cuts = {0, 1, 2, 257}},
                        Case{.rows = 3, .in = 7, .cuts = {0, 7}}, Case{.rows = 3, .in = 2, .cuts = {0, 17'001}}}) {
    Check<DeviceFloats>(DataType::kFloat32, c, tolerances);
  }
  // One token has all of the probability: no loss, no gradient.
  Check<DeviceFloats>(DataType::kFloat32, {.rows = 1, .in = 3, .cuts = {0, 1}}, {.loss = 1e-6, .dx = 1, .dweight = 1});
  Check<DeviceFloats>(DataType::kFloat32, {.rows = 12, .in = 9, .cuts = {0, 200, 300}, .offset = 100},
                      {.loss = 1e-4, .dx = 1e-4, .dweight = 1e-4});
}

TEST_P(LinearCrossEntropyTest, MatchesTheReferenceInBf16) {
  // Probabilities are rounded to 2^-8 of each before they are summed up, dx once more; on a GPU logits of up to 10
  // before.
  const bool gpu = !backend_->host_memory();
  const double loss = gpu ? 0x1p-10 : 1e-5;
  const double dweight = gpu ? 0x1p-6 : 0x1p-8;
  Check<DeviceBfloats>(DataType::kBfloat16, {}, {.loss = loss, .dx = gpu ? 0x1p-6 : 0x1p-7, .dweight = dweight});
  Check<DeviceBfloats>(DataType::kBfloat16, {.cuts = {0, 3000, 6000, 9001}},
                       {.loss = loss, .dx = 0x1p-6, .dweight = dweight});
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
    ASSERT_TRUE(head->Forward(ContextFor(*head), x.data(), weight.data(), target.data(), logits.data(), row.data(),
                              HeadPass::kEvaluation)
                    .ok());
    const DeviceStructs<LossSum> total(backend_.get(), 1);
    ASSERT_TRUE(head->Loss(ContextFor(*head), row.data(), target.data(), total.data(), GradientMode::kWrite).ok());
    EXPECT_FALSE(std::isfinite(total.Read()[0].loss));
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, LinearCrossEntropyTest, testing::ValuesIn(AllBackends()), BackendName);

}  // namespace
}  // namespace penstock
