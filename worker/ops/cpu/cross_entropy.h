// Softmax cross-entropy on the CPU. A row belongs to one thread and row losses are added in order, in double, so bits
// don't depend on the threads.
#ifndef PENSTOCK_WORKER_OPS_CPU_CROSS_ENTROPY_H_
#define PENSTOCK_WORKER_OPS_CPU_CROSS_ENTROPY_H_

#include <memory>

#include "worker/ops/cross_entropy.h"

namespace penstock::cpu {

std::unique_ptr<CrossEntropy> CreateCrossEntropy(const CrossEntropyShape& shape, int threads);

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_CROSS_ENTROPY_H_
