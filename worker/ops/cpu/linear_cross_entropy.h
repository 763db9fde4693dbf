// The output head and its loss on the CPU. Rows are shared by threads and row losses added in order, in double: apart
// from oneDNN's products, bits don't depend on the threads.
#ifndef PENSTOCK_WORKER_OPS_CPU_LINEAR_CROSS_ENTROPY_H_
#define PENSTOCK_WORKER_OPS_CPU_LINEAR_CROSS_ENTROPY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/ops/cpu/matmul.h"
#include "worker/ops/linear_cross_entropy.h"

namespace penstock::cpu {

// `cache` is used during creation only.
absl::StatusOr<std::unique_ptr<LinearCrossEntropy>> CreateLinearCrossEntropy(const LinearCrossEntropyShape& shape,
                                                                             MatmulCache* cache);

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_LINEAR_CROSS_ENTROPY_H_
