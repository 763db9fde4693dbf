// Matrix products on the ordinary cores, for what the library has no algorithm for: right for every size, leading
// dimension and address, and slow. Nothing that a job needs depends on what a library's version happens to have.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_PLAIN_PRODUCT_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_PLAIN_PRODUCT_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "worker/ops/cuda/kernels/bf16.h"

namespace penstock::cuda {

struct PlainProductSizes {
  int64_t m, n, k;
  // Elements from one row, and from one term of the sums, to the next: of op(A) (m, k) and op(B)' (n, k).
  int64_t a_row, a_term;
  int64_t b_row, b_term;
  int64_t ldd;
};

// D (m, n), column-major, = op(A) op(B) + bias (m) + addend, which has D's layout and may be D. `bias` and `addend` may
// be null. Sums are fp32, in order of k. Out: In, or float.
template <typename In, typename Out>
cudaError_t PlainProduct(const PlainProductSizes& sizes, const In* a, const In* b, const Out* bias, const Out* addend,
                         Out* d, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_PLAIN_PRODUCT_H_
