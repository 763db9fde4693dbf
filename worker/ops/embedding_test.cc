#include "worker/ops/embedding.h"

#include <limits>

#include "gtest/gtest.h"
#include "worker/ops/reference/operations.h"
#include "worker/ops/testing/backends.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(EmbeddingReference, GradientsMatchFiniteDifferences) {
  const EmbeddingShape shape = {.batch = 2, .seq_length = 3, .vocab_size = 4, .hidden = 5};
  const auto tokens = RandomTokens(shape.batch * shape.seq_length, shape.vocab_size, 1);
  const auto wte = RandomValues(shape.vocab_size * shape.hidden, 2);
  const auto wpe = RandomValues(shape.seq_length * shape.hidden, 3);
  const auto dx = RandomValues(shape.batch * shape.seq_length * shape.hidden, 4);
  const auto g = reference::EmbeddingBackward(shape, tokens, dx);
  const auto loss = [&](const auto& wte_, const auto& wpe_) {
    return Dot(dx, reference::EmbeddingForward(shape, tokens, wte_, wpe_));
  };
  EXPECT_LT(RelativeError(g.wte, NumericalGradient([&](const auto& v) { return loss(v, wpe); }, wte)),
            kFiniteDifferenceTolerance);
  EXPECT_LT(RelativeError(g.wpe, NumericalGradient([&](const auto& v) { return loss(wte, v); }, wpe)),
            kFiniteDifferenceTolerance);
}

class EmbeddingTest : public BackendTest {};

TEST_P(EmbeddingTest, MatchesTheReference) {
  // Few tokens, so that each occurs often and its contributions add up.
  const EmbeddingShape shape = {.batch = 5, .seq_length = 33, .vocab_size = 7, .hidden = 1040};
  const auto tokens = RandomTokens(shape.batch * shape.seq_length, shape.vocab_size, 1);
  const auto wte = RandomValues(shape.vocab_size * shape.hidden, 2);
  const auto wpe = RandomValues(shape.seq_length * shape.hidden, 3);
  const auto dx = RandomValues(shape.batch * shape.seq_length * shape.hidden, 4);
  auto expected = reference::EmbeddingBackward(shape, tokens, dx);
  for (double& value : expected.wte) value += 0.5;
  for (double& value : expected.wpe) value -= 0.5;

  Backend* const backend = backend_.get();
  const DeviceTokens tokens_(backend, tokens);
  const DeviceFloats wte_(backend, ToFloats(wte)), wpe_(backend, ToFloats(wpe)), dx_(backend, ToFloats(dx));
  const DeviceFloats x(backend, static_cast<int64_t>(dx.size()), kNan);
  const DeviceFloats dwte(backend, static_cast<int64_t>(wte.size()), 0.5F);
  const DeviceFloats dwpe(backend, static_cast<int64_t>(wpe.size()), -0.5F);
  const auto embedding = backend->CreateEmbedding(shape).value();
  const OpContext context = ContextFor(*embedding);
  ASSERT_TRUE(embedding->Forward(context, tokens_.data(), wte_.data(), wpe_.data(), x.data()).ok());
  ASSERT_TRUE(embedding->Backward(context, tokens_.data(), dx_.data(), dwte.data(), dwpe.data()).ok());
  EXPECT_LT(RelativeError(x.Read(), reference::EmbeddingForward(shape, tokens, wte, wpe)), 1e-7);
  EXPECT_LT(RelativeError(dwte.Read(), expected.wte), 2e-6);
  EXPECT_LT(RelativeError(dwpe.Read(), expected.wpe), 2e-6);
}

// More tokens than a device sorts at a time, of more kinds than a byte tells apart; one of them in half of the places.
TEST_P(EmbeddingTest, AddsInTheOrderOfTheTokens) {
  for (const int64_t hidden : {int64_t{8}, int64_t{5}}) {
    const EmbeddingShape shape = {
        .batch = 3, .seq_length = 900, .vocab_size = 70'000, .hidden = hidden, .vocab_begin = 300, .vocab_end = 1500};
    auto tokens = RandomTokens(shape.batch * shape.seq_length, 1700, 1);
    for (size_t i = 0; i < tokens.size(); i += 2) tokens[i] = 777;
    const auto dx = ToFloats(RandomValues(static_cast<int64_t>(tokens.size()) * hidden, 2));
    std::vector<float> expected(static_cast<size_t>(1200 * hidden), 0.5F);
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (!shape.Holds(tokens[i])) continue;
      for (size_t c = 0; c < static_cast<size_t>(hidden); ++c) {
        expected[static_cast<size_t>((tokens[i] - 300) * hidden) + c] += dx[i * static_cast<size_t>(hidden) + c];
      }
    }
    Backend* const backend = backend_.get();
    const DeviceTokens tokens_(backend, tokens);
    const DeviceFloats dx_(backend, dx), dwte(backend, 1200 * hidden, 0.5F);
    const auto embedding = backend->CreateEmbedding(shape).value();
    ASSERT_TRUE(embedding->Backward(ContextFor(*embedding), tokens_.data(), dx_.data(), dwte.data(), nullptr).ok());
    EXPECT_EQ(dwte.Read(), expected);
  }
}

// Rare and frequent tokens take different ways on a device.
TEST_P(EmbeddingTest, AddsTokensThatAreSeldomAndOften) {
  const int64_t hidden = 5;
  std::vector<int32_t> tokens;
  int32_t kinds = 0;
  for (const int times : {1, 63, 64, 65, 2, 66, 127, 1, 128, 129, 200, 3, 64})
    tokens.insert(tokens.end(), times, kinds++);
  const EmbeddingShape shape = {
      .batch = 1, .seq_length = static_cast<int64_t>(tokens.size()), .vocab_size = kinds, .hidden = hidden};
  const auto dx = ToFloats(RandomValues(static_cast<int64_t>(tokens.size()) * hidden, 2));
  std::vector<float> expected(static_cast<size_t>(kinds * hidden), 0.5F);
  for (size_t i = 0; i < dx.size(); ++i) {
    const size_t at =
        static_cast<size_t>(tokens[i / static_cast<size_t>(hidden)] * hidden) + i % static_cast<size_t>(hidden);
    expected[at] += dx[i];
  }
  Backend* const backend = backend_.get();
  const DeviceTokens tokens_(backend, tokens);
  const DeviceFloats dx_(backend, dx), dwte(backend, kinds * hidden, 0.5F);
  const auto embedding = backend->CreateEmbedding(shape).value();
  ASSERT_TRUE(embedding->Backward(ContextFor(*embedding), tokens_.data(), dx_.data(), dwte.data(), nullptr).ok());
  EXPECT_EQ(dwte.Read(), expected);
}

TEST_P(EmbeddingTest, PartsOfTheVocabularyAddUpToTheWhole) {
  EmbeddingShape shape = {.batch = 2, .seq_length = 9, .vocab_size = 7, .hidden = 20};
  const auto tokens = RandomTokens(18, 7, 1);
  const auto wte = RandomValues(7 * 20, 2);
  const auto wpe = RandomValues(9 * 20, 3);
  const auto dx = RandomValues(18 * 20, 4);
  Backend* const backend = backend_.get();
  const DeviceTokens tokens_(backend, tokens);
  const DeviceFloats wpe_(backend, ToFloats(wpe)), dx_(backend, ToFloats(dx));
  std::vector<float> sum(18 * 20, 0.0F);
  std::vector<float> gradient;
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 4}, {4, 7}}) {
    shape.vocab_begin = begin;
    shape.vocab_end = end;
    const auto embedding = backend->CreateEmbedding(shape).value();
    const std::vector<double> rows(wte.begin() + begin * 20, wte.begin() + end * 20);
    const DeviceFloats wte_(backend, ToFloats(rows)), x(backend, 18 * 20, kNan),
        dwte(backend, (end - begin) * 20, 0.0F);
    const OpContext context = ContextFor(*embedding);
    const bool positions = begin == 0;
    ASSERT_TRUE(
        embedding->Forward(context, tokens_.data(), wte_.data(), positions ? wpe_.data() : nullptr, x.data()).ok());
    ASSERT_TRUE(embedding->Backward(context, tokens_.data(), dx_.data(), dwte.data(), nullptr).ok());
    const std::vector<float> part = x.Read();
    for (size_t i = 0; i < part.size(); ++i) sum[i] += part[i];
    const std::vector<float> part_gradient = dwte.Read();
    gradient.insert(gradient.end(), part_gradient.begin(), part_gradient.end());
  }
  EXPECT_LT(RelativeError(sum, reference::EmbeddingForward(shape, tokens, wte, wpe)), 2e-7);
  EXPECT_LT(RelativeError(gradient, reference::EmbeddingBackward(shape, tokens, dx).wte), 2e-6);
}

INSTANTIATE_TEST_SUITE_P(Backends, EmbeddingTest, testing::ValuesIn(AllBackends()), BackendName);

}  // namespace
}  // namespace penstock
