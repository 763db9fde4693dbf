#include "worker/runtime/rate_probe.h"

#include <cmath>

#include "gtest/gtest.h"
#include "worker/ops/cpu/cpu_backend.h"

namespace penstock {
namespace {

// No figure is asserted, only that each one is there and that none is absurd.
TEST(RateProbeTest, EveryRateIsMeasured) {
  const auto rates = MeasureRates(1, [] { return CreateCpuBackend({.threads = 1}); });
  ASSERT_TRUE(rates.ok()) << rates.status();
  for (const v1::ComputeRates* compute : {&rates->fp32(), &rates->bf16()}) {
    ASSERT_GE(compute->layers_size(), 3);
    uint32_t before = 0;
    for (const v1::ComputeRates::LayerRate& rate : compute->layers()) {
      EXPECT_GT(rate.hidden(), before);
      before = rate.hidden();
      for (const double value :
           {rate.forward_flops_per_second(), rate.backward_flops_per_second(),
            rate.attention_forward_flops_per_second(), rate.attention_backward_flops_per_second()}) {
        EXPECT_TRUE(std::isfinite(value)) << rates->DebugString();
        EXPECT_GT(value, 1e6) << rates->DebugString();
        EXPECT_LT(value, 1e14) << rates->DebugString();
      }
    }
    EXPECT_GT(compute->head_flops_per_second(), 1e6);
  }
  EXPECT_GT(rates->memory_bytes_per_second(), 1e6);
}

TEST(RateProbeTest, ThreadsThatCannotBeAreRefused) {
  EXPECT_EQ(MeasureRates(0, [] { return CreateCpuBackend({.threads = 0}); }).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace penstock
