#include "worker/ops/dropout.h"

#include <limits>

#include "gtest/gtest.h"
#include "worker/ops/testing/backends.h"
#include "worker/ops/testing/numeric.h"

namespace penstock {
namespace {

constexpr uint32_t kSite = 3;
// Beyond 32 bits.
constexpr uint64_t kFirst = (uint64_t{5} << 32) + 11;

std::vector<float> Expected(const DropoutShape& shape, const std::vector<float>& x) {
  std::vector<float> y(x.size());
  for (int64_t i = 0; i < static_cast<int64_t>(x.size()); ++i) {
    const auto sample = kFirst + static_cast<uint64_t>(i / shape.elements);
    const int64_t element = i % shape.elements;
    uint32_t words[4];
    DropoutBits(shape.rule, sample, kSite, static_cast<uint32_t>(element / kDropoutBlock), words);
    const bool keeps = DropoutKeeps(shape.rule, words, static_cast<int>(element % kDropoutBlock));
    y[static_cast<size_t>(i)] = keeps ? x[static_cast<size_t>(i)] * shape.rule.scale : 0.0F;
  }
  return y;
}

class DropoutTest : public BackendTest {};

// To the bit: the same elements stay on every device.
TEST_P(DropoutTest, KeepsTheRulesElements) {
  for (const auto& [samples, elements] : {std::pair<int64_t, int64_t>{1, 1}, {3, 7}, {2, 8}, {5, 4099}, {2, 70000}}) {
    const DropoutShape shape = {.samples = samples, .elements = elements, .rule = DropoutRuleOf(0.25, 17)};
    SCOPED_TRACE(testing::Message() << samples << " x " << elements);
    std::vector<float> values = ToFloats(RandomValues(samples * elements, 1));
    values[0] = std::numeric_limits<float>::infinity();  // which is 0 where it is dropped
    const DeviceFloats x(backend_.get(), values), y(backend_.get(), samples * elements, -1.0F);
    const auto dropout = backend_->CreateDropout(shape).value();
    const OpContext context = ContextFor(*dropout);
    ASSERT_TRUE(dropout->Apply(context, kFirst, kSite, x.data(), y.data()).ok());
    EXPECT_EQ(y.Read(), Expected(shape, values));
    ASSERT_TRUE(dropout->Apply(context, kFirst, kSite, x.data(), x.data()).ok());
    EXPECT_EQ(x.Read(), y.Read());
  }
}

TEST_P(DropoutTest, RoundsOnceInBf16) {
  DropoutShape shape = {.samples = 2, .elements = 1003, .rule = DropoutRuleOf(0.1, 4)};
  shape.type = DataType::kBfloat16;
  const DeviceBfloats x(backend_.get(), ToFloats(RandomValues(2 * 1003, 1)));
  const DeviceBfloats y(backend_.get(), std::vector<float>(2 * 1003, -1.0F));
  const auto dropout = backend_->CreateDropout(shape).value();
  ASSERT_TRUE(dropout->Apply(ContextFor(*dropout), kFirst, kSite, x.data(), y.data()).ok());
  std::vector<float> expected = Expected(shape, x.Read());
  for (float& value : expected) value = ToFloat(ToBfloat16(value));
  EXPECT_EQ(y.Read(), expected);
}

TEST_P(DropoutTest, NeedsPositiveSizes) {
  EXPECT_EQ(backend_->CreateDropout({.samples = 1, .elements = 0}).status().message(),
            "dropout: elements is 0; it must be positive");
}

INSTANTIATE_TEST_SUITE_P(Backends, DropoutTest, testing::ValuesIn(AllBackends()), BackendName);

}  // namespace
}  // namespace penstock
