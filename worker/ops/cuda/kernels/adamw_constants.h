// AdamWParams as the kernel takes them, rounded as core/optimizer/adamw.cc rounds them. Apart from adamw.h, which nvcc
// reads too.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_ADAMW_CONSTANTS_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_ADAMW_CONSTANTS_H_

#include <cmath>

#include "core/optimizer/adamw.h"
#include "worker/ops/cuda/kernels/adamw_element.h"

namespace penstock::cuda {

inline AdamWConstants ConstantsOf(const AdamWParams& params) {
  return {.one_minus_beta1 = 1.0F - params.beta1,
          .one_minus_beta2 = 1.0F - params.beta2,
          .beta2 = params.beta2,
          .keep = std::fma(-params.learning_rate, params.weight_decay, 1.0F),
          .rate = params.learning_rate,
          .epsilon = params.epsilon,
          .gradient_scale = params.gradient_scale,
          .bias_correction1 = params.bias_correction1,
          .bias_correction2 = params.bias_correction2};
}

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_ADAMW_CONSTANTS_H_
