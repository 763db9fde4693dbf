// Operations around others that measure each call; for operation_times.cc alone.
//
// `times` outlives them.
#ifndef PENSTOCK_WORKER_OPS_MEASURED_OPERATIONS_H_
#define PENSTOCK_WORKER_OPS_MEASURED_OPERATIONS_H_

#include <memory>

#include "worker/ops/backend.h"
#include "worker/ops/call_times.h"

namespace penstock {

std::unique_ptr<Linear> Measured(std::unique_ptr<Linear> inner, const LinearShape& shape, CallTimes* times);
std::unique_ptr<LayerNorm> Measured(std::unique_ptr<LayerNorm> inner, const LayerNormShape& shape, CallTimes* times);
std::unique_ptr<CausalAttention> Measured(std::unique_ptr<CausalAttention> inner, const AttentionShape& shape,
                                          CallTimes* times);
std::unique_ptr<Dropout> Measured(std::unique_ptr<Dropout> inner, const DropoutShape& shape, CallTimes* times);
std::unique_ptr<Embedding> Measured(std::unique_ptr<Embedding> inner, const EmbeddingShape& shape, CallTimes* times);
std::unique_ptr<LinearCrossEntropy> Measured(std::unique_ptr<LinearCrossEntropy> inner,
                                             const LinearCrossEntropyShape& shape, CallTimes* times);
// Of `bytes`, one tensor.
std::unique_ptr<Gelu> Measured(std::unique_ptr<Gelu> inner, double bytes, CallTimes* times);
std::unique_ptr<ResidualAdd> Measured(std::unique_ptr<ResidualAdd> inner, double bytes, CallTimes* times);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_MEASURED_OPERATIONS_H_
