// bfloat16 in device memory, in headers that the host's compiler reads too: the layout of core/base/bfloat16.h.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_BF16_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_BF16_H_

#include <cstdint>

namespace penstock::cuda {

struct Bf16 {
  uint16_t bits;
};
static_assert(sizeof(Bf16) == 2);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_BF16_H_
