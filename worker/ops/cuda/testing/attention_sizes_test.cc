#include "worker/ops/cuda/kernels/attention_sizes.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"

namespace penstock::cuda {
namespace {

// What a block may have: 99 KB on the smallest of sm_80's kin (GeForce of sm_86 and later), 227 KB on sm_90; and what a
// multiprocessor has for all its blocks, less 1 KB for each of them.
constexpr int kBlockBytesMax = 99 << 10;
constexpr int kA100Bytes = 164 << 10;
constexpr int kH100Bytes = 228 << 10;

int BlocksThatFit(const AttentionTiles& tiles, int bytes) { return bytes / (tiles.shared_bytes() + 1024); }

TEST(AttentionSizes, EveryTileFitsSharedMemory) {
  for (const int dim : kTensorHeadDims) {
    for (const AttentionTiles& tiles : {ForwardTiles(dim), QueryGradientTiles(dim), KeyGradientTiles(dim)}) {
      SCOPED_TRACE(testing::Message() << dim << ", " << tiles.rows() << " by " << tiles.columns);
      EXPECT_LE(tiles.shared_bytes(), kBlockBytesMax);
      // Others go on while one waits at its barrier.
      EXPECT_GE(BlocksThatFit(tiles, kA100Bytes), 2);
      EXPECT_GE(BlocksThatFit(tiles, kH100Bytes), 3);
      // What the kernels take for granted: pairs of a product's tiles, 16-byte rows in different banks, as many threads
      // as statistics.
      EXPECT_EQ(tiles.columns % 16, 0);
      EXPECT_EQ(tiles.dim % 16, 0);
      EXPECT_EQ(tiles.pitch() * 2 % 32, 16);
      EXPECT_LE(tiles.statistics * tiles.columns, kTensorThreads);
    }
  }
}

TEST(AttentionSizes, PlainTilesFitEveryCard) {
  for (int64_t dim = 1; dim <= kHeadDimMax; ++dim) EXPECT_LE(PlainSharedBytes(dim, 4, 2), kBlockBytesMax) << dim;
  EXPECT_EQ(PlainSharedBytes(128, 3, 1), (3 * 32 * 129 + 32 * 33) * 4);
  EXPECT_EQ(PlainSharedBytes(256, 4, 2), (4 * 16 * 257 + 2 * 16 * 17) * 4);
}

TEST(AttentionSizes, EveryTileHasItsBlockAndLongOnesComeFirst) {
  for (const int64_t heads : {1, 5, 12, 13}) {
    for (const int64_t tiles : {1, 3, 8}) {
      for (const int64_t group : {1, 4, 12, 64}) {
        std::vector<int64_t> seen;
        TilePlace before = {.head = -1, .tile = 0};
        for (int64_t number = 0; number < heads * tiles; ++number) {
          const TilePlace place = PlaceOfTile(number, tiles, heads, group);
          ASSERT_LT(place.head, heads);
          ASSERT_LT(place.tile, tiles);
          seen.push_back(place.head * tiles + place.tile);
          if (number > 0 && place.head / group == before.head / group) {
            EXPECT_GE(place.tile, before.tile);
          } else if (number > 0) {
            EXPECT_EQ(place.head / group, before.head / group + 1);
          }
          before = place;
        }
        std::sort(seen.begin(), seen.end());
        for (int64_t i = 0; i < heads * tiles; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
      }
    }
  }
  EXPECT_EQ(HeadGroup({.batch = 32, .seq_length = 1024, .heads = 12, .head_dim = 64}), 64);
  EXPECT_EQ(HeadGroup({.batch = 1, .seq_length = 1 << 20, .heads = 12, .head_dim = 128}), 1);
}

TEST(AttentionSizes, AreWhatTheArithmeticSays) {
  const AttentionTiles forward = ForwardTiles(64);
  EXPECT_EQ(forward.rows(), 128);
  EXPECT_EQ(forward.shared_bytes(), (128 + 2 * 2 * 64) * 72 * 2);
  const AttentionTiles keys = KeyGradientTiles(128);
  EXPECT_EQ(keys.rows(), 64);
  EXPECT_EQ(keys.shared_bytes(), (2 * 64 + 2 * 2 * 32) * 136 * 2 + 2 * 2 * 32 * 4);
}

}  // namespace
}  // namespace penstock::cuda
