// Vocabulary-parallel softmax cross-entropy on the CPU. Rows are independent and losses added in order, in double.
#ifndef PENSTOCK_WORKER_OPS_CPU_SPLIT_CROSS_ENTROPY_H_
#define PENSTOCK_WORKER_OPS_CPU_SPLIT_CROSS_ENTROPY_H_

#include <memory>

#include "worker/ops/split_cross_entropy.h"

namespace penstock::cpu {

std::unique_ptr<SplitCrossEntropy> CreateSplitCrossEntropy(const SplitCrossEntropyShape& shape, int threads);

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_SPLIT_CROSS_ENTROPY_H_
