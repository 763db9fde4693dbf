#include "core/random/initial_weights.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/model/test_gpt2.h"
#include "gtest/gtest.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {
namespace {

ParameterTable Table(uint32_t vocab_size) {
  return *ParameterTable::Create(
      TestGpt2({.layers = 2, .hidden = 24, .heads = 3, .seq_length = 10, .vocab_size = vocab_size, .mlp_hidden = 50}));
}

std::vector<float> Fill(const ParameterTable& table, uint64_t seed, const ElementRange& range) {
  std::vector<float> out(static_cast<size_t>(range.size()));
  FillInitial(table, seed, range, out);
  return out;
}

TEST(InitialWeightsTest, AnyCutGivesTheSameBits) {
  const ParameterTable table = Table(37);
  const std::vector<float> whole = Fill(table, 4, table.range());
  for (const int64_t step : {1, 7, 100, 1000, 65536}) {
    std::vector<float> cut;
    for (const ElementRange& range : SplitBySize(table.range(), step)) {
      const std::vector<float> part = Fill(table, 4, range);
      cut.insert(cut.end(), part.begin(), part.end());
    }
    EXPECT_EQ(cut, whole) << step;
  }
}

// A parameter's values hang on its name and not on where it lies: a larger vocabulary moves all others.
TEST(InitialWeightsTest, PositionInTheTableDoesNotMatter) {
  const ParameterTable small = Table(37);
  const ParameterTable large = Table(100);
  for (const Parameter& parameter : small.parameters()) {
    const Parameter* other = large.Find(parameter.name);
    ASSERT_NE(other, nullptr);
    const std::vector<float> a = Fill(small, 4, parameter.range());
    std::vector<float> b = Fill(large, 4, other->range());
    b.resize(a.size());
    EXPECT_EQ(a, b) << parameter.name;
  }
}

TEST(InitialWeightsTest, DistributionsAreTheTables) {
  const ParameterTable table = Table(500);
  for (const Parameter& parameter : table.parameters()) {
    const std::vector<float> values = Fill(table, 8, parameter.range());
    if (parameter.init == InitKind::kNormal) {
      double square = 0;
      for (const float value : values) square += double{value} * value;
      const double deviation = std::sqrt(square / static_cast<double>(values.size()));
      const double expected = parameter.init_std;
      EXPECT_NEAR(deviation / expected, 1, 5 / std::sqrt(2.0 * static_cast<double>(values.size()))) << parameter.name;
    } else {
      const float expected = parameter.init == InitKind::kOnes ? 1.0f : 0.0f;
      EXPECT_TRUE(std::all_of(values.begin(), values.end(), [=](float value) { return value == expected; }));
    }
  }
}

TEST(InitialWeightsTest, SeedsAndNamesGiveOtherValues) {
  const ParameterTable table = Table(37);
  EXPECT_NE(Fill(table, 4, table.Find("wte")->range()), Fill(table, 5, table.Find("wte")->range()));
  EXPECT_NE(Fill(table, 4, table.Find("h.0.mlp.fc.weight")->range()),
            Fill(table, 4, table.Find("h.1.mlp.fc.weight")->range()));
}

}  // namespace
}  // namespace penstock
