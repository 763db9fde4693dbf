// Element by element: sums, GELU and its gradient, conversions. Pointers of type T: float or Bf16. `count` is positive.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_ELEMENTWISE_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_ELEMENTWISE_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "worker/ops/cuda/kernels/bf16.h"

namespace penstock::cuda {

// y = a + b; y may be a or b itself.
template <typename T>
cudaError_t AddElements(const T* a, const T* b, T* y, int64_t count, cudaStream_t stream);

// y = gelu(x), in its tanh form.
template <typename T>
cudaError_t GeluForward(const T* x, T* y, int64_t count, cudaStream_t stream);
// dx = dy gelu'(x); dx may be dy itself.
template <typename T>
cudaError_t GeluBackward(const T* x, const T* dy, T* dx, int64_t count, cudaStream_t stream);

// to = from, rounded to nearest, ties to even. (float, Bf16) or (Bf16, float).
template <typename From, typename To>
cudaError_t ConvertElements(const From* from, To* to, int64_t count, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_ELEMENTWISE_H_
