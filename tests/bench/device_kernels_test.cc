// The benchmark's cases, run once on the CPU at sizes that aren't round: that each of them is what it says and fits its
// memory. Times are for a card to tell.
#include "tests/bench/device_kernels.h"

#include "gtest/gtest.h"
#include "worker/ops/cpu/cpu_backend.h"

namespace penstock {
namespace {

KernelSizes Small(DataType type) {
  return {.batch = 2,
          .seq_length = 9,
          .hidden = 12,
          .heads = 3,
          .vocab_size = 31,
          .parameters = 70'001,
          .product = 17,
          .type = type};
}

TEST(DeviceKernels, EveryCaseRuns) {
  for (const DataType type : {DataType::kFloat32, DataType::kBfloat16}) {
    const auto backend = CreateCpuBackend({.threads = 1}).value();
    const auto all = MakeKernelCases(backend.get(), Small(type));
    ASSERT_TRUE(all.ok()) << all.status();
    const std::vector<KernelCase>& cases = all->cases;
    ASSERT_GT(cases.size(), 4u);
    // What the others are compared with comes first.
    EXPECT_EQ(cases[0].name, kCopyCase);
    EXPECT_EQ(cases[1].name, kProductCase);
    for (const KernelCase& item : cases) {
      const absl::Status status = item.run();
      EXPECT_TRUE(status.ok()) << item.name << ": " << status;
      EXPECT_GT(item.bytes, 0) << item.name;
    }
    EXPECT_EQ(cases[1].flops, 2.0 * 17 * 17 * 17);
    EXPECT_EQ(cases[2].flops, 2.0 * 2 * 9 * 9 * 12);  // two products, half of the pairs
    EXPECT_EQ(cases[3].flops, 2.5 * cases[2].flops);
  }
}

TEST(DeviceKernels, ProductsAlone) {
  const auto backend = CreateCpuBackend({.threads = 1}).value();
  KernelSizes sizes = Small(DataType::kBfloat16);
  sizes.products_only = true;
  const auto products = MakeKernelCases(backend.get(), sizes);
  ASSERT_TRUE(products.ok()) << products.status();
  ASSERT_FALSE(products->cases.empty());
  for (const KernelCase& item : products->cases) EXPECT_GT(item.flops, 0) << item.name;
}

TEST(DeviceKernels, HeadsDivideTheWidth) {
  const auto backend = CreateCpuBackend({.threads = 1}).value();
  KernelSizes sizes = Small(DataType::kFloat32);
  sizes.heads = 5;
  EXPECT_EQ(MakeKernelCases(backend.get(), sizes).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace penstock
