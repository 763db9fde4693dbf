#include "worker/ops/cuda/kernels/attention_sizes.h"

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
