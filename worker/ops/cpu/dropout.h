// Dropout on the CPU. Elementwise: bits don't depend on the threads.
#ifndef PENSTOCK_WORKER_OPS_CPU_DROPOUT_H_
#define PENSTOCK_WORKER_OPS_CPU_DROPOUT_H_

#include <memory>

#include "worker/ops/dropout.h"

namespace penstock::cpu {

std::unique_ptr<Dropout> CreateDropout(const DropoutShape& shape, int threads);

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_DROPOUT_H_
