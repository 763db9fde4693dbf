#include "worker/ops/split_cross_entropy.h"

#include <cmath>

#include "gtest/gtest.h"
#include "worker/ops/reference/operations.h"
#include "worker/ops/testing/backends.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

// Columns [begin, end) of (rows, width).
std::vector<float> Columns(const std::vector<double>& values, int64_t width, int64_t begin, int64_t end) {
  std::vector<float> part;
  for (int64_t at = 0; at < static_cast<int64_t>(values.size()); ++at) {
    if (at % width >= begin && at % width < end) part.push_back(static_cast<float>(values[static_cast<size_t>(at)]));
  }
  return part;
}

class SplitCrossEntropyTest : public BackendTest {};

TEST_P(SplitCrossEntropyTest, PartsMatchTheReferenceOfTheWhole) {
  const int64_t rows = 19;
  const int64_t vocab = 257;
  auto values = RandomValues(rows * vocab, 1, 8.0);
  auto targets = RandomTokens(rows, vocab, 2);
  targets[7] = kIgnoredTarget;
  targets[1] = 0;
  targets[2] = vocab - 1;
  const double expected = reference::CrossEntropyForward({.rows = rows, .vocab_size = vocab}, values, targets);
  const auto gradient = reference::CrossEntropyBackward({.rows = rows, .vocab_size = vocab}, values, targets);
  for (const std::vector<int64_t>& cuts :
       {std::vector<int64_t>{0, 257}, {0, 129, 257}, {0, 1, 2, 257}, {0, 65, 129, 193, 257}}) {
    SCOPED_TRACE(testing::Message() << cuts.size() - 1 << " ranks");
    const int ranks = static_cast<int>(cuts.size()) - 1;
    const DeviceTokens device_targets(backend_.get(), targets);
    std::vector<std::unique_ptr<SplitCrossEntropy>> losses;
    std::vector<DeviceFloats> logits;
    // Device memory for the reductions, in floats.
    const int64_t each = rows * static_cast<int64_t>(sizeof(RowReduction) / sizeof(float));
    const DeviceFloats all(backend_.get(), ranks * each, std::nanf(""));
    for (int rank = 0; rank < ranks; ++rank) {
      const int64_t begin = cuts[static_cast<size_t>(rank)];
      const int64_t end = cuts[static_cast<size_t>(rank) + 1];
      losses.push_back(backend_->CreateSplitCrossEntropy({rows, vocab, begin, end, ranks}).value());
      logits.emplace_back(backend_.get(), Columns(values, vocab, begin, end));
      auto* mine = reinterpret_cast<RowReduction*>(all.data() + rank * each);
      ASSERT_TRUE(
          losses.back()->Reduce(ContextFor(*losses.back()), logits.back().data(), device_targets.data(), mine).ok());
    }
    for (int rank = 0; rank < ranks; ++rank) {
      const SplitCrossEntropy& loss = *losses[static_cast<size_t>(rank)];
      const DeviceFloats& mine = logits[static_cast<size_t>(rank)];
      const auto* reductions = reinterpret_cast<const RowReduction*>(all.data());
      const LossSum validation = loss.Finish(ContextFor(loss), reductions, device_targets.data(), nullptr).value();
      const LossSum sum = loss.Finish(ContextFor(loss), reductions, device_targets.data(), mine.data()).value();
      EXPECT_EQ(sum.loss, validation.loss);
      EXPECT_EQ(sum.target_count, rows - 1);
      EXPECT_NEAR(sum.loss, expected, 1e-6 * expected);
      const auto part = Columns(gradient, vocab, cuts[static_cast<size_t>(rank)], cuts[static_cast<size_t>(rank) + 1]);
      EXPECT_LT(RelativeError(mine.Read(), std::vector<double>(part.begin(), part.end())), 2e-6);
    }
  }
}

TEST_P(SplitCrossEntropyTest, OneRankHasTheBitsOfTheWhole) {
  const auto values = RandomValues(5 * 83, 3, 8.0);
  const DeviceTokens targets(backend_.get(), RandomTokens(5, 83, 4));
  const DeviceFloats split_logits(backend_.get(), ToFloats(values)), whole_logits(backend_.get(), ToFloats(values));
  const auto split = backend_->CreateSplitCrossEntropy({5, 83, 0, 83, 1}).value();
  const auto whole = backend_->CreateCrossEntropy({.rows = 5, .vocab_size = 83}).value();
  const DeviceStructs<RowReduction> reductions(backend_.get(), 5);
  ASSERT_TRUE(split->Reduce(ContextFor(*split), split_logits.data(), targets.data(), reductions.data()).ok());
  const LossSum sum = split->Finish(ContextFor(*split), reductions.data(), targets.data(), split_logits.data()).value();
  EXPECT_EQ(sum.loss, whole->ForwardBackward(ContextFor(*whole), whole_logits.data(), targets.data())->loss);
  EXPECT_EQ(split_logits.Read(), whole_logits.Read());
}

TEST_P(SplitCrossEntropyTest, NamesATargetOutsideTheVocabulary) {
  const auto loss = backend_->CreateSplitCrossEntropy({1, 9, 0, 4, 2}).value();
  const DeviceFloats logits(backend_.get(), 4, 0.0F);
  const DeviceTokens other(backend_.get(), {8}), outside(backend_.get(), {9});
  const DeviceStructs<RowReduction> reductions(backend_.get(), 1);
  EXPECT_TRUE(loss->Reduce(ContextFor(*loss), logits.data(), other.data(), reductions.data()).ok());
  EXPECT_EQ(loss->Reduce(ContextFor(*loss), logits.data(), outside.data(), reductions.data()).message(),
            "target 9 of row 0 is outside the vocabulary: expected 0 to 8, or -1 for none");
  EXPECT_FALSE(backend_->CreateSplitCrossEntropy({1, 9, 4, 4, 2}).ok());
}

INSTANTIATE_TEST_SUITE_P(Backends, SplitCrossEntropyTest, testing::ValuesIn(AllBackends()), BackendName);

}  // namespace
}  // namespace penstock
