#include "core/layout/shard_ranges.h"

#include <algorithm>
#include <vector>

#include "core/model/parameter_table.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

TEST(ShardRangesTest, RunsOfWholePiecesCoverTheSpace) {
  for (const int64_t elements :
       {int64_t{1}, kPieceElements - 1, kPieceElements, kPieceElements + 1, 7 * kPieceElements + 3, int64_t{1} << 43}) {
    for (const int shards : {1, 2, 3, 5, 16, 1000}) {
      const ShardRanges ranges = *ShardRanges::Create(elements, shards);
      int64_t next = 0;
      int64_t fewest = INT64_MAX;
      int64_t most = 0;
      for (int shard = 0; shard < shards; ++shard) {
        const ElementRange range = ranges.Range(shard);
        const int64_t pieces = ranges.Pieces(shard).size();
        fewest = std::min(fewest, pieces);
        most = std::max(most, pieces);
        if (range.empty()) {
          EXPECT_EQ(pieces, 0);
          continue;
        }
        EXPECT_EQ(range.begin, next);
        EXPECT_EQ(range.begin, ranges.Pieces(shard).begin * kPieceElements);
        EXPECT_EQ(ranges.ShardOf(range.begin), shard);
        EXPECT_EQ(ranges.ShardOf(range.end - 1), shard);
        next = range.end;
      }
      EXPECT_EQ(next, elements);
      EXPECT_LE(most - fewest, 1);
    }
  }
}

TEST(ShardRangesTest, CutNamesTheOwners) {
  const ShardRanges ranges = *ShardRanges::Create(10 * kPieceElements, 3);  // 3, 3 and 4 pieces
  const int64_t p = kPieceElements;
  EXPECT_EQ(ranges.Cut({p, 7 * p + 1}),
            (std::vector<ShardPart>{{0, {p, 3 * p}}, {1, {3 * p, 6 * p}}, {2, {6 * p, 7 * p + 1}}}));
  EXPECT_EQ(ranges.Cut({4 * p, 4 * p + 5}), (std::vector<ShardPart>{{1, {4 * p, 4 * p + 5}}}));
  EXPECT_TRUE(ranges.Cut({5, 5}).empty());
}

TEST(ShardRangesTest, CutSkipsShardsThatOwnNothing) {
  const ShardRanges ranges = *ShardRanges::Create(2 * kPieceElements, 5);
  int64_t covered = 0;
  for (const ShardPart& part : ranges.Cut({0, 2 * kPieceElements})) {
    EXPECT_FALSE(part.range.empty());
    EXPECT_EQ(ranges.ShardOf(part.range.begin), part.shard);
    covered += part.range.size();
  }
  EXPECT_EQ(covered, 2 * kPieceElements);
}

TEST(ShardRangesTest, RefusesNothingToShard) {
  EXPECT_FALSE(ShardRanges::Create(0, 1).ok());
  EXPECT_FALSE(ShardRanges::Create(10, 0).ok());
}

}  // namespace
}  // namespace penstock
