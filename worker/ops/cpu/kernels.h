// The loops under the CPU's operations, each on one thread: what a processor's vector registers are for.
//
// Compiled once for x86-64-v3 (AVX2) and once for v4 (AVX-512), with the same bits from both. T is float or Bfloat16:
// the type in memory; the arithmetic is fp32. Pure; memory is packed and belongs to the caller.
#ifndef PENSTOCK_WORKER_OPS_CPU_KERNELS_H_
#define PENSTOCK_WORKER_OPS_CPU_KERNELS_H_

#include <cstdint>

#include "core/base/bfloat16.h"
#include "core/base/vector_isa.h"
#include "core/random/dropout_rule.h"

namespace penstock::cpu {

// One (sample, head) of attention: where its rows begin, and how far apart they are, in elements.
template <typename T>
struct HeadRows {
  T* data;
  int64_t stride;
};

// Query rows that a head's kernels work on at a time.
inline constexpr int64_t kQueryBlock = 32;

// Sizes of one head.
struct HeadShape {
  int64_t seq_length = 0;
  int64_t dim = 0;
  float scale = 0;  // of the scores

  // The same in whole vectors.
  int64_t padded_dim() const { return (dim + 15) / 16 * 16; }
  int64_t padded_seq() const { return (seq_length + 15) / 16 * 16; }
  // Floats of scratch memory that either pass uses, 64-byte aligned.
  int64_t scratch_elements() const {
    return padded_dim() * (6 * seq_length + 2 * padded_seq() + kQueryBlock) + 2 * kQueryBlock * padded_seq();
  }
};

template <typename T>
struct Kernels {
  // y = a + b.
  void (*add)(const T* a, const T* b, T* y, int64_t count);
  // sum += x.
  void (*accumulate)(const T* x, float* sum, int64_t count);
  void (*gelu_forward)(const T* x, T* y, int64_t count);
  // dx may be dy.
  void (*gelu_backward)(const T* x, const T* dy, T* dx, int64_t count);
  // y = dropout(x), `count` elements of a sample from `first_block` on. y may be x.
  void (*dropout)(const DropoutRule& rule, uint64_t sample, uint32_t site, uint32_t first_block, const T* x, T* y,
                  int64_t count);

  // One row. y = (x - mean) / std * gamma + beta.
  void (*layer_norm_forward)(const T* x, const T* gamma, const T* beta, int64_t width, float epsilon, T* y, float* mean,
                             float* reciprocal_std);
  // One row. Adds to dx.
  void (*layer_norm_backward)(const T* x, const T* gamma, float mean, float reciprocal_std, const T* dy, int64_t width,
                              T* dx);
  // Adds the sums over all rows of columns [begin, end), a row after the other.
  void (*layer_norm_columns)(const T* x, const T* dy, const float* mean, const float* reciprocal_std, int64_t rows,
                             int64_t width, int64_t begin, int64_t end, float* dgamma, float* dbeta);
  void (*column_sums)(const T* x, int64_t rows, int64_t width, int64_t begin, int64_t end, float* sums);

  // Takes `count` more scores of a row into its maximum and its sum of e^(score - maximum). Before the first ones they
  // are -infinity and 0.
  void (*softmax_statistics)(const float* scores, int64_t count, float* maximum, float* sum);
  // gradient = e^(score - maximum) * scale; may be the scores' own memory.
  void (*softmax_gradient)(const float* scores, int64_t count, float maximum, float scale, T* gradient);

  // Causal attention of one head. q, k, v rows of dim; out rows of dim; log_sum_exp (seq).
  void (*attention_forward)(const HeadShape& shape, HeadRows<const T> q, HeadRows<const T> k, HeadRows<const T> v,
                            HeadRows<T> out, float* log_sum_exp, float* scratch);
  void (*attention_backward)(const HeadShape& shape, HeadRows<const T> q, HeadRows<const T> k, HeadRows<const T> v,
                             HeadRows<const T> out, HeadRows<const T> dout, const float* log_sum_exp, HeadRows<T> dq,
                             HeadRows<T> dk, HeadRows<T> dv, float* scratch);
};

namespace v3 {
extern const Kernels<float> kFloatKernels;
extern const Kernels<Bfloat16> kBfloat16Kernels;
}  // namespace v3
namespace v4 {
extern const Kernels<float> kFloatKernels;
extern const Kernels<Bfloat16> kBfloat16Kernels;
}  // namespace v4

// `isa` changes the speed alone; the processor must have it.
template <typename T>
const Kernels<T>& KernelsFor(VectorIsa isa = BestVectorIsa());
template <>
inline const Kernels<float>& KernelsFor<float>(VectorIsa isa) {
  return isa == VectorIsa::kV4 ? v4::kFloatKernels : v3::kFloatKernels;
}
template <>
inline const Kernels<Bfloat16>& KernelsFor<Bfloat16>(VectorIsa isa) {
  return isa == VectorIsa::kV4 ? v4::kBfloat16Kernels : v3::kBfloat16Kernels;
}

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_KERNELS_H_
