// AdamW on spans (Loshchilov and Hutter 2019, "Decoupled weight decay regularization"), in fp32:
//
//   g = gradient * gradient_scale
//   m = m + (1 - beta1) (g - m)
//   v = beta2 v + (1 - beta2) g^2
//   w = w (1 - rate * decay) - rate * (m * c1) / (sqrt(v * c2) + epsilon)      c = 1 / (1 - beta^step)
//
// Every operation is an IEEE one with its fusing written out, so that scalar code, AVX2 and AVX-512 give the same bits,
// whatever the length or the alignment of the spans. Pure; elements are independent, so a caller may cut as it likes.
#ifndef PENSTOCK_CORE_OPTIMIZER_ADAMW_H_
#define PENSTOCK_CORE_OPTIMIZER_ADAMW_H_

#include <span>

#include "core/base/bfloat16.h"
#include "core/base/vector_isa.h"

namespace penstock {

struct AdamWParams {
  float learning_rate = 0;
  float beta1 = 0;
  float beta2 = 0;
  float epsilon = 0;
  // 0 for a parameter that isn't decayed (Parameter.decay).
  float weight_decay = 0;
  // The rest as in v1::StepDecision.
  float gradient_scale = 1;
  float bias_correction1 = 1;
  float bias_correction2 = 1;
};

// Updates weights, exp_avg (m) and exp_avg_sq (v) in place. All spans have the same size and don't overlap.
// `isa` changes the speed alone; the processor must have it.
void AdamWUpdate(const AdamWParams& params, std::span<const float> gradient, std::span<float> weights,
                 std::span<float> exp_avg, std::span<float> exp_avg_sq, VectorIsa isa = BestVectorIsa());

// The same, and writes the new weights rounded to bf16 too, for those who compute in it: one pass over the memory.
void AdamWUpdate(const AdamWParams& params, std::span<const float> gradient, std::span<float> weights,
                 std::span<float> exp_avg, std::span<float> exp_avg_sq, std::span<Bfloat16> rounded,
                 VectorIsa isa = BestVectorIsa());

}  // namespace penstock

#endif  // PENSTOCK_CORE_OPTIMIZER_ADAMW_H_
