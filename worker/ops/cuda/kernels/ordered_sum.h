// A group's contributions added in the order of the group's members: the same bits as the exchange on the host.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_ORDERED_SUM_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_ORDERED_SUM_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace penstock::cuda {

// own[i] = others[0][i] + ... + own[i] + ... + others[n - 1][i] from left to right, where own stands at own_index.
// own (count); others: n arrays (count), `stride` elements apart.
cudaError_t AddInOrder(float* own, int64_t count, const float* others, int64_t stride, int n, int own_index,
                       cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_ORDERED_SUM_H_
