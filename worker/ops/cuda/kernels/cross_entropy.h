// Softmax cross-entropy with its gradient; see worker/ops/cross_entropy.h.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_CROSS_ENTROPY_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_CROSS_ENTROPY_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "worker/ops/cuda/kernels/bf16.h"

namespace penstock::cuda {

struct CrossEntropyTotal {
  double loss;
  int64_t target_count;
};

// logits (rows, vocab_size), targets (rows): within the vocabulary, or negative for none. losses (rows) is scratch;
// *total gets the sums, added in a fixed order. With `gradient` the logits become softmax(logits) - onehot(target), and
// zero in a row without a target.
cudaError_t SoftmaxCrossEntropy(float* logits, const int32_t* targets, int64_t rows, int64_t vocab_size, bool gradient,
                                double* losses, CrossEntropyTotal* total, cudaStream_t stream);

// For columns [vocab_begin, vocab_end) of the vocabulary, which one of several tensor ranks holds; see
// worker/ops/split_cross_entropy.h. RowPart is its RowReduction.
struct RowPart {
  double maximum;
  double sum;
  double target_logit;
};
struct SplitSizes {
  int64_t rows;
  int64_t vocab_begin;
  int64_t vocab_end;
  int ranks;
};

// logits (rows, pitch), of which the columns count; writes parts (rows). T: float or Bf16.
template <typename T>
cudaError_t ReduceRows(const SplitSizes& sizes, const T* logits, int64_t pitch, const int32_t* targets, RowPart* parts,
                       cudaStream_t stream);
// all (ranks, rows); logits (rows, columns). Replaces the logits by their gradient, unless they are null. With `add`
// the sums are added to *total.
cudaError_t FinishRows(const SplitSizes& sizes, const RowPart* all, const int32_t* targets, float* logits,
                       double* losses, CrossEntropyTotal* total, bool add, cudaStream_t stream);

// What FinishRows makes of the logits (rows, pitch). T: float or Bf16.
template <typename T>
cudaError_t GradientOfRows(const SplitSizes& sizes, const RowPart* all, const int32_t* targets, T* logits,
                           int64_t pitch, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_CROSS_ENTROPY_H_
