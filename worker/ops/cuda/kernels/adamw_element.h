// AdamW for one element, with the operations of core/optimizer/adamw.cc one by one: the device's update and the
// parameter service's give the same bits. Every operation is named with its rounding, so that no compiler fuses or
// splits one. Compiles for the host too, where a test holds it against core/optimizer.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_ADAMW_ELEMENT_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_ADAMW_ELEMENT_H_

#include <cmath>

#include "worker/ops/cuda/kernels/host_device.h"

namespace penstock::cuda {

// What AdamWParams say, as the update uses them.
struct AdamWConstants {
  float one_minus_beta1;
  float one_minus_beta2;
  float beta2;
  float keep;  // 1 - rate * decay, fused
  float rate;
  float epsilon;
  float gradient_scale;
  float bias_correction1;
  float bias_correction2;
};

namespace ieee {
#if defined(__CUDA_ARCH__)
__device__ inline float Add(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float Sub(float a, float b) { return __fsub_rn(a, b); }
__device__ inline float Mul(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float Div(float a, float b) { return __fdiv_rn(a, b); }
__device__ inline float Sqrt(float a) { return __fsqrt_rn(a); }
__device__ inline float Fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
#else
PENSTOCK_HOST_DEVICE inline float Add(float a, float b) { return a + b; }
PENSTOCK_HOST_DEVICE inline float Sub(float a, float b) { return a - b; }
PENSTOCK_HOST_DEVICE inline float Mul(float a, float b) { return a * b; }
PENSTOCK_HOST_DEVICE inline float Div(float a, float b) { return a / b; }
PENSTOCK_HOST_DEVICE inline float Sqrt(float a) { return std::sqrt(a); }
PENSTOCK_HOST_DEVICE inline float Fma(float a, float b, float c) { return std::fma(a, b, c); }
#endif
}  // namespace ieee

PENSTOCK_HOST_DEVICE inline void AdamWElement(const AdamWConstants& c, float gradient, float* weight, float* exp_avg,
                                              float* exp_avg_sq) {
  const float g = ieee::Mul(gradient, c.gradient_scale);
  const float m = ieee::Fma(c.one_minus_beta1, ieee::Sub(g, *exp_avg), *exp_avg);
  const float v = ieee::Fma(ieee::Mul(c.one_minus_beta2, g), g, ieee::Mul(c.beta2, *exp_avg_sq));
  const float step =
      ieee::Div(ieee::Mul(m, c.bias_correction1), ieee::Add(ieee::Sqrt(ieee::Mul(v, c.bias_correction2)), c.epsilon));
  *exp_avg = m;
  *exp_avg_sq = v;
  *weight = ieee::Fma(-c.rate, step, ieee::Mul(*weight, c.keep));
}

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_ADAMW_ELEMENT_H_
