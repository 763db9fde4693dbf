#include "core/plan/partition.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/model/test_gpt2.h"
#include "gtest/gtest.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {
namespace {

struct Quality {
  double largest = 0;
  double squares = 0;
  std::vector<int> boundaries;

  friend auto operator<=>(const Quality&, const Quality&) = default;
};

Quality QualityOf(const std::vector<double>& costs, const std::vector<int>& boundaries) {
  Quality quality;
  quality.boundaries = boundaries;
  for (size_t part = 0; part + 1 < boundaries.size(); ++part) {
    double sum = 0;
    for (int i = boundaries[part]; i < boundaries[part + 1]; ++i) sum += costs[static_cast<size_t>(i)];
    quality.largest = std::max(quality.largest, sum);
    quality.squares += sum * sum;
  }
  return quality;
}

// Every cut there is, by recursion; the least in (largest, squares, boundaries).
void TryAll(const std::vector<double>& costs, int parts, std::vector<int>* boundaries, Quality* best) {
  const int n = static_cast<int>(costs.size());
  if (parts == 1) {
    boundaries->push_back(n);
    *best = std::min(*best, QualityOf(costs, *boundaries));
    boundaries->pop_back();
    return;
  }
  for (int next = boundaries->back() + 1; next <= n - parts + 1; ++next) {
    boundaries->push_back(next);
    TryAll(costs, parts - 1, boundaries, best);
    boundaries->pop_back();
  }
}

TEST(PartitionCostsTest, IsTheBestOfAllCuts) {
  std::mt19937 generator(1);
  for (int round = 0; round < 300; ++round) {
    const int n = 1 + static_cast<int>(generator() % 9);
    std::vector<double> costs;
    // Small integers, so that sums are exact and there are ties.
    for (int i = 0; i < n; ++i) costs.push_back(generator() % 6);
    for (int parts = 1; parts <= n; ++parts) {
      Quality best{.largest = std::numeric_limits<double>::infinity(), .squares = 0, .boundaries = {}};
      std::vector<int> start = {0};
      TryAll(costs, parts, &start, &best);
      const auto boundaries = PartitionCosts(costs, parts);
      ASSERT_TRUE(boundaries.ok());
      const Quality quality = QualityOf(costs, *boundaries);
      EXPECT_EQ(quality.largest, best.largest);
      EXPECT_NEAR(quality.squares, best.squares, 1e-9);
    }
  }
}

TEST(PartitionCostsTest, EarlierPartsAreShorterAmongEquals) {
  EXPECT_EQ(*PartitionCosts(std::vector<double>{1, 1, 1}, 2), (std::vector<int>{0, 1, 3}));
  EXPECT_EQ(*PartitionCosts(std::vector<double>{1, 1, 1, 1, 1}, 3), (std::vector<int>{0, 1, 3, 5}));
  EXPECT_EQ(*PartitionCosts(std::vector<double>{0, 0, 0}, 2), (std::vector<int>{0, 1, 3}));
}

TEST(PartitionCostsTest, ManyBlocksAreQuick) {
  const std::vector<double> costs(4096, 1.0);
  const std::vector<int> boundaries = *PartitionCosts(costs, 1024);
  for (size_t i = 0; i < boundaries.size(); ++i) EXPECT_EQ(boundaries[i], static_cast<int>(4 * i));
}

TEST(PartitionCostsTest, RefusesWhatCannotBeCut) {
  const std::vector<double> costs = {1, 2};
  EXPECT_FALSE(PartitionCosts(costs, 0).ok());
  EXPECT_FALSE(PartitionCosts(costs, 3).ok());
  EXPECT_FALSE(PartitionCosts(std::vector<double>{1, -1}, 1).ok());
  EXPECT_FALSE(PartitionCosts(std::vector<double>{1, std::nan("")}, 1).ok());
  EXPECT_FALSE(PartitionCosts(std::vector<double>{1e308, 1e308}, 1).ok());
}

ParameterTable Table(uint32_t layers, uint32_t vocab_size) {
  return *ParameterTable::Create(TestGpt2(
      {.layers = layers, .hidden = 64, .heads = 4, .seq_length = 32, .vocab_size = vocab_size, .mlp_hidden = 256}));
}

TEST(PartitionStagesTest, CoversTheBlocksWithALayerOnEachStage) {
  for (const uint32_t layers : {1u, 2u, 5u, 12u}) {
    for (const uint32_t vocab_size : {16u, 256u, 50257u}) {
      const ParameterTable table = Table(layers, vocab_size);
      for (int stages = 1; stages <= static_cast<int>(layers); ++stages) {
        const std::vector<BlockRange> ranges = *PartitionStages(table, stages);
        ASSERT_EQ(ranges.size(), static_cast<size_t>(stages));
        int next = 0;
        for (const BlockRange& range : ranges) {
          EXPECT_EQ(range.begin, next);
          next = range.end;
          int layers_here = 0;
          for (int block = range.begin; block < range.end; ++block) {
            layers_here += table.blocks()[static_cast<size_t>(block)].kind == BlockKind::kLayer;
          }
          EXPECT_GE(layers_here, 1);
        }
        EXPECT_EQ(next, static_cast<int>(table.blocks().size()));
      }
      EXPECT_FALSE(PartitionStages(table, static_cast<int>(layers) + 1).ok());
      EXPECT_FALSE(PartitionStages(table, 0).ok());
    }
  }
}

TEST(PartitionStagesTest, AHeavyHeadGetsFewerLayers) {
  const std::vector<BlockRange> light = *PartitionStages(Table(8, 16), 2);
  EXPECT_EQ(light[0].size(), 5);  // embedding and 4 layers
  const std::vector<BlockRange> heavy = *PartitionStages(Table(8, 50257), 2);
  EXPECT_EQ(heavy[1].size(), 2);  // 1 layer and the head
}

}  // namespace
}  // namespace penstock
