// Attention's tiles in the banks of shared memory and the sectors of the device's: counted by the emulator.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "worker/ops/cuda/kernels/attention_tensor.h"
#include "worker/ops/cuda/kernels/attention_tensor_gradient.h"
#include "worker/cuda/testing/emulator/traffic.h"
#include "worker/ops/cuda/testing/on_device.h"

namespace penstock::cuda {
namespace {

class AttentionTrafficTest : public testing::TestWithParam<int64_t> {
 protected:
  AttentionSizes sizes_ = {.batch = 1, .seq_length = 192, .heads = 2, .head_dim = GetParam()};
  const size_t elements_ = static_cast<size_t>(192 * 2 * GetParam());
  const OnDevice<Bf16> qkv_{std::vector<Bf16>(3 * elements_)};
  const OnDevice<Bf16> out_{std::vector<Bf16>(elements_)};
  const OnDevice<Bf16> dout_{std::vector<Bf16>(elements_)};
  const OnDevice<Bf16> dqkv_{std::vector<Bf16>(3 * elements_)};
  const OnDevice<float> log_sum_exp_{std::vector<float>(192 * 2)};
  const OnDevice<float> dot_{std::vector<float>(192 * 2)};

  template <typename Run>
  void Check(const Run& run) {
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    const emulator::ScopedTraffic traffic;
    ASSERT_EQ(run(), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    const emulator::Traffic counted = traffic.Get();
    EXPECT_GT(counted.loads, 0);
    EXPECT_EQ(counted.load_conflicts, 0);
    EXPECT_GT(counted.copies, 0);
    // A row of 96 elements ends within a phase's lanes, and the next one begins on banks that are taken.
    EXPECT_LE(counted.copy_conflicts, GetParam() == 96 ? counted.copies / 2 : 0);
    // No sector is read for a part of it.
    EXPECT_GT(counted.copied_bytes, 0);
    EXPECT_EQ(counted.sectors * 32, counted.copied_bytes);
  }
};

TEST_P(AttentionTrafficTest, ForwardFitsBanksAndSectors) {
  Check([&] { return TensorAttentionForward(sizes_, qkv_.data(), out_.data(), log_sum_exp_.data(), nullptr); });
}

TEST_P(AttentionTrafficTest, BackwardFitsBanksAndSectors) {
  Check([&] {
    return TensorAttentionBackward(sizes_, qkv_.data(), log_sum_exp_.data(), dout_.data(), dot_.data(), dqkv_.data(),
                                   nullptr);
  });
}

INSTANTIATE_TEST_SUITE_P(HeadDims, AttentionTrafficTest, testing::Values(64, 96, 128));

// The counting itself.
TEST(TrafficTest, RowsOnTheSameBanksConflict) {
  const void* rows[32];
  const auto set = [&](uint64_t pitch) {
    for (uint64_t lane = 0; lane < 32; ++lane) rows[lane] = reinterpret_cast<const void*>(4096 + lane * pitch);
  };
  const emulator::ScopedTraffic traffic;
  set(128);  // all eight rows of a phase on the same four banks
  emulator::CountMatrixLoad(rows);
  EXPECT_EQ(traffic.Get().load_conflicts, 4 * 7);
  set(144);
  emulator::CountMatrixLoad(rows);
  EXPECT_EQ(traffic.Get().load_conflicts, 4 * 7);
  for (unsigned lane = 0; lane < 8; ++lane) {
    emulator::CountCopy(0, lane, nullptr, rows[lane], reinterpret_cast<const void*>(uint64_t{4096} + lane * 64), true);
  }
  emulator::CountBlockEnd();
  EXPECT_EQ(traffic.Get().copy_conflicts, 0);
  EXPECT_EQ(traffic.Get().sectors, 8);  // half of each is for nothing
  EXPECT_EQ(traffic.Get().copied_bytes, 8 * 16);
}

}  // namespace
}  // namespace penstock::cuda
