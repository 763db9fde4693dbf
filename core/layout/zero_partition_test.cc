#include "core/layout/zero_partition.h"

#include <algorithm>
#include <random>
#include <vector>

#include "core/model/test_gpt2.h"
#include "core/plan/partition.h"
#include "gtest/gtest.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {
namespace {

ParameterTable RandomTable(std::mt19937* generator) {
  TestGpt2Sizes sizes;
  sizes.layers = 1 + (*generator)() % 6;
  sizes.heads = 1 + (*generator)() % 4;
  sizes.hidden = sizes.heads * (1 + (*generator)() % 9);
  sizes.seq_length = 1 + (*generator)() % 30;
  sizes.vocab_size = 1 + (*generator)() % 300;
  sizes.mlp_hidden = 1 + (*generator)() % 60;
  return *ParameterTable::Create(TestGpt2(sizes));
}

void Count(const RangeList& list, std::vector<int>* owners) {
  for (const ElementRange& range : list.ranges()) {
    for (int64_t i = range.begin; i < range.end; ++i) ++(*owners)[static_cast<size_t>(i)];
  }
}

// Over random models and meshes: every element of the space is owned by exactly one rank, but for the tied ones, which
// two stages own in the same way.
TEST(ZeroPartitionTest, OwnedRangesPartitionTheSpace) {
  std::mt19937 generator(3);
  for (int round = 0; round < 200; ++round) {
    const ParameterTable table = RandomTable(&generator);
    const int layers = static_cast<int>(table.blocks().size()) - 2;
    const int stages = 1 + static_cast<int>(generator() % static_cast<unsigned>(layers));
    const int data_degree = 1 + static_cast<int>(generator() % 7);
    const int zero_stage = static_cast<int>(generator() % 2);
    int smallest_axis = 4;
    for (const Parameter& parameter : table.parameters()) {
      if (parameter.split != SplitAxis::kSplit) continue;
      smallest_axis = std::min(smallest_axis, static_cast<int>(parameter.shape.front()));
    }
    const int tensor_degree = 1 + static_cast<int>(generator() % static_cast<unsigned>(smallest_axis));
    std::vector<int> owners(static_cast<size_t>(table.size()), 0);
    // By stage with the tied parameter, then by (tensor rank, data rank).
    std::vector<std::vector<RangeList>> tied_of_stage;
    const std::vector<BlockRange> ranges = *PartitionStages(table, stages);
    for (const BlockRange& blocks : ranges) {
      std::vector<RangeList> tied;
      for (int tensor_rank = 0; tensor_rank < tensor_degree; ++tensor_rank) {
        const StageParameters stage = *ParametersOfStage(table, blocks, {.degree = tensor_degree, .rank = tensor_rank});
        int64_t owned = 0;
        for (int data_rank = 0; data_rank < data_degree; ++data_rank) {
          const OwnedRanges mine = *OwnedBy(stage, zero_stage, data_degree, data_rank);
          owned += mine.size();
          tied.push_back(mine.tied);
          Count(mine.untied, &owners);
          Count(mine.tied, &owners);
          EXPECT_EQ(mine.untied, stage.untied.Slice(mine.untied_memory));
          if (zero_stage == 0) {
            EXPECT_EQ(mine.size(), data_rank == 0 ? stage.size() - stage.untied_shared().size() +
                                                        (tensor_rank == 0 ? stage.shared : 0)
                                                  : 0);
          }
          if (zero_stage == 1) {
            // Equal parts, but for the alignment at both ends.
            EXPECT_NEAR(static_cast<double>(mine.untied.size()),
                        static_cast<double>(stage.untied_answered().size()) / data_degree, kPartitionAlignment);
            EXPECT_EQ(mine.untied_memory.begin % kPartitionAlignment, 0);
          }
        }
        EXPECT_EQ(owned, stage.untied_answered().size() + stage.tied.size());
      }
      if (blocks.begin == 0 || blocks.end == static_cast<int>(table.blocks().size())) tied_of_stage.push_back(tied);
    }
    const Parameter* tied = table.tied();
    ASSERT_NE(tied, nullptr);
    ASSERT_EQ(tied_of_stage.size(), stages == 1 ? 1u : 2u);
    EXPECT_EQ(tied_of_stage.front(), tied_of_stage.back());
    for (int64_t i = 0; i < table.size(); ++i) {
      ASSERT_EQ(owners[static_cast<size_t>(i)], tied->range().Contains(i) && stages > 1 ? 2 : 1) << i;
    }
  }
}

TEST(ZeroPartitionTest, TensorRanksShareWhatIsReplicatedAtTheEndOfTheirMemory) {
  std::mt19937 generator(5);
  const ParameterTable table = *ParameterTable::Create(
      TestGpt2({.layers = 2, .hidden = 8, .heads = 4, .seq_length = 3, .vocab_size = 7, .mlp_hidden = 32}));
  const auto shard = [&](int rank) { return *ParametersOfStage(table, {0, 4}, {.degree = 2, .rank = rank}); };
  const StageParameters first = shard(0);
  const StageParameters second = shard(1);
  EXPECT_EQ(first.untied.Slice(first.untied_shared()), second.untied.Slice(second.untied_shared()));
  EXPECT_EQ(first.shared, 3 * 8 + 2 * 6 * 8 + 2 * 8);
  EXPECT_EQ(first.untied_answered().size(), first.untied.size());
  EXPECT_EQ(second.untied_answered().size(), second.untied.size() - second.shared);
  // 7 tokens over 2: 4 and 3 rows, nothing padded.
  EXPECT_EQ(first.tied.ranges(), (std::vector<ElementRange>{{0, 32}}));
  EXPECT_EQ(second.tied.ranges(), (std::vector<ElementRange>{{32, 56}}));
  // Whole heads: (4, 3, 2, 8) in two.
  const Parameter& qkv = *table.Find("h.1.attn.qkv.weight");
  EXPECT_EQ(ShardOfParameter(qkv, second.tensor), (ElementRange{qkv.begin + qkv.size() / 2, qkv.end}));
  EXPECT_FALSE(ParametersOfStage(table, {0, 4}, {.degree = 5, .rank = 4}).ok());
  EXPECT_FALSE(ParametersOfStage(table, {0, 4}, {.degree = 2, .rank = 2}).ok());
}

TEST(ZeroPartitionTest, FirstAndLastStageUseTheTiedParameter) {
  std::mt19937 generator(11);
  const ParameterTable table = RandomTable(&generator);
  const int blocks = static_cast<int>(table.blocks().size());
  const StageParameters whole = *ParametersOfStage(table, {0, blocks});
  EXPECT_TRUE(whole.tied_twice());
  EXPECT_EQ(whole.tied, table.tied()->range());
  EXPECT_EQ(whole.untied, (ElementRange{table.tied()->end, table.size()}));
  const StageParameters head = *ParametersOfStage(table, {blocks - 1, blocks});
  EXPECT_TRUE(head.last && !head.first && !head.tied_twice());
  EXPECT_EQ(head.tied, table.tied()->range());
  EXPECT_EQ(head.untied, table.blocks().back().range());
  const StageParameters middle = *ParametersOfStage(table, {1, blocks - 1});
  EXPECT_TRUE(middle.tied.empty());
}

TEST(ZeroPartitionTest, SmallRangesLeaveSomeRanksNothing) {
  int64_t covered = 0;
  int64_t next = 5;
  for (int part = 0; part < 10; ++part) {
    const ElementRange range = PartitionPart({5, 40}, 10, part);
    if (range.empty()) continue;
    EXPECT_EQ(range.begin, next);
    next = range.end;
    covered += range.size();
  }
  EXPECT_EQ(covered, 35);
  for (int part = 0; part < 3; ++part) EXPECT_TRUE(PartitionPart({7, 7}, 3, part).empty());
}

TEST(ZeroPartitionTest, RefusesWhatIsNotThere) {
  std::mt19937 generator(2);
  const ParameterTable table = RandomTable(&generator);
  const int blocks = static_cast<int>(table.blocks().size());
  EXPECT_FALSE(ParametersOfStage(table, {0, 0}).ok());
  EXPECT_FALSE(ParametersOfStage(table, {-1, 1}).ok());
  EXPECT_FALSE(ParametersOfStage(table, {0, blocks + 1}).ok());
  const StageParameters stage = *ParametersOfStage(table, {0, blocks});
  EXPECT_FALSE(OwnedBy(stage, 3, 2, 0).ok());
  EXPECT_FALSE(OwnedBy(stage, 1, 2, 2).ok());
  EXPECT_FALSE(OwnedBy(stage, 1, 0, 0).ok());
}

}  // namespace
}  // namespace penstock
