// The residual sum on the CPU. Elementwise: bits don't depend on the threads.
#ifndef PENSTOCK_WORKER_OPS_CPU_RESIDUAL_H_
#define PENSTOCK_WORKER_OPS_CPU_RESIDUAL_H_

#include <memory>

#include "core/base/data_type.h"
#include "worker/ops/residual.h"

namespace penstock::cpu {

std::unique_ptr<ResidualAdd> CreateResidualAdd(int64_t elements, DataType type, int threads);

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_RESIDUAL_H_
