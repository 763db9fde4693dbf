// Layer normalisation on the CPU. Rows are cut over threads for what belongs to a row, columns for the sums over rows,
// so bits don't depend on the threads.
#ifndef PENSTOCK_WORKER_OPS_CPU_LAYER_NORM_H_
#define PENSTOCK_WORKER_OPS_CPU_LAYER_NORM_H_

#include <memory>

#include "worker/ops/layer_norm.h"

namespace penstock::cpu {

std::unique_ptr<LayerNorm> CreateLayerNorm(const LayerNormShape& shape, int threads);

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_LAYER_NORM_H_
