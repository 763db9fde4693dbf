// What the benchmark of a device's kernels measures: each operation of a GPT-2 by itself, on memory of its own, with
// the least that it has to move or compute.
//
// Thread-compatible. The backend outlives the cases.
#ifndef PENSTOCK_TESTS_BENCH_DEVICE_KERNELS_H_
#define PENSTOCK_TESTS_BENCH_DEVICE_KERNELS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/data_type.h"
#include "worker/ops/backend.h"

namespace penstock {

struct KernelSizes {
  int64_t batch = 16;
  int64_t seq_length = 1024;
  int64_t hidden = 768;
  int64_t heads = 12;
  int64_t vocab_size = 50'257;
  int64_t parameters = 123'849'984;  // of the optimizer's update
  int64_t product = 8192;            // rows, columns and depth of the product that stands for the device's rate
  DataType type = DataType::kBfloat16;
  // Those with cuBLASLt's products alone, of those with the head's rows that a rank takes at a time.
  bool products_only = false;
};

struct KernelCase {
  std::string name;
  double flops = 0;  // of matrix products, 0 where there are none
  double bytes = 0;  // what has to be read and written at least
  std::function<absl::Status()> run;
};

// The references' names: a copy within the device, and a large product.
inline constexpr char kCopyCase[] = "copy";
inline constexpr char kProductCase[] = "product";

struct KernelCases {
  std::vector<std::unique_ptr<DeviceMemory>> memory;  // which the cases use
  std::vector<KernelCase> cases;
};

// The references come first. INVALID_ARGUMENT for sizes that don't fit together.
absl::StatusOr<KernelCases> MakeKernelCases(Backend* backend, const KernelSizes& sizes);

}  // namespace penstock

#endif  // PENSTOCK_TESTS_BENCH_DEVICE_KERNELS_H_
