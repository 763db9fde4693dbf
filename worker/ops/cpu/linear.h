// Linear layers on the CPU: oneDNN's products on the canonical weights as they lie, the gradients added in place.
#ifndef PENSTOCK_WORKER_OPS_CPU_LINEAR_H_
#define PENSTOCK_WORKER_OPS_CPU_LINEAR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/ops/cpu/matmul.h"
#include "worker/ops/linear.h"

namespace penstock::cpu {

// `cache` is used during creation only.
absl::StatusOr<std::unique_ptr<Linear>> CreateLinear(const LinearShape& shape, MatmulCache* cache);

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_LINEAR_H_
