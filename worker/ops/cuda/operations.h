// The device's operations behind the interfaces of worker/ops. Private to ops/cuda. Shapes were checked.
#ifndef PENSTOCK_WORKER_OPS_CUDA_OPERATIONS_H_
#define PENSTOCK_WORKER_OPS_CUDA_OPERATIONS_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/ops/attention.h"
#include "worker/ops/cuda/kernels/bf16.h"
#include "worker/ops/cuda/matmul.h"
#include "worker/ops/dropout.h"
#include "worker/ops/embedding.h"
#include "worker/ops/gelu.h"
#include "worker/ops/layer_norm.h"
#include "worker/ops/linear.h"
#include "worker/ops/linear_cross_entropy.h"
#include "worker/ops/residual.h"

namespace penstock::cuda {

absl::StatusOr<std::unique_ptr<Linear>> CreateLinear(const LinearShape& shape, MatmulFactory* matmuls);
std::unique_ptr<LayerNorm> CreateLayerNorm(const LayerNormShape& shape);
absl::StatusOr<std::unique_ptr<CausalAttention>> CreateCausalAttention(const AttentionShape& shape);
std::unique_ptr<Gelu> CreateGelu(int64_t elements, DataType type);
std::unique_ptr<ResidualAdd> CreateResidualAdd(int64_t elements, DataType type);
std::unique_ptr<Dropout> CreateDropout(const DropoutShape& shape);
std::unique_ptr<Embedding> CreateEmbedding(const EmbeddingShape& shape);
absl::StatusOr<std::unique_ptr<LinearCrossEntropy>> CreateLinearCrossEntropy(const LinearCrossEntropyShape& shape,
                                                                             MatmulFactory* matmuls);

inline cudaStream_t StreamOf(const OpContext& context) { return static_cast<cudaStream_t>(context.stream); }

// Calls `run` with a value of the kernels' type for `type`.
template <typename Run>
auto ByType(DataType type, const Run& run) {
  return type == DataType::kBfloat16 ? run(Bf16{}) : run(float{});
}
template <typename T>
const T* As(const void* values, T) {
  return static_cast<const T*>(values);
}
template <typename T>
T* As(void* values, T) {
  return static_cast<T*>(values);
}

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_OPERATIONS_H_
