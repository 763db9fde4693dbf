// Softmax cross-entropy of rows of logits, with its gradient; see worker/ops/linear_cross_entropy.h.
#ifndef PENSTOCK_WORKER_OPS_CUDA_KERNELS_CROSS_ENTROPY_H_
#define PENSTOCK_WORKER_OPS_CUDA_KERNELS_CROSS_ENTROPY_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "worker/ops/cuda/kernels/bf16.h"
#include "worker/ops/loss.h"

namespace penstock::cuda {

// Columns [vocab_begin, vocab_end) of the vocabulary, which one of several tensor ranks holds.
struct SplitSizes {
  int64_t rows;
  int64_t vocab_begin;
  int64_t vocab_end;
  int ranks;
};

// logits (rows, pitch), of which the columns count; targets (rows), within the vocabulary or negative for none; writes
// reductions (rows). With `gradient` the logits become what GradientOfRows makes of them: one pass through memory less,
// where one rank has all columns. T: float or Bf16.
template <typename T>
cudaError_t ReduceRows(const SplitSizes& sizes, T* logits, int64_t pitch, const int32_t* targets, bool gradient,
                       RowReduction* reductions, cudaStream_t stream);

// all (ranks, rows). *total gets the sums, added in a fixed order; with `add` what it has is added. losses (rows) is
// scratch.
cudaError_t LossOfRows(const SplitSizes& sizes, const RowReduction* all, const int32_t* targets, double* losses,
                       LossSum* total, bool add, cudaStream_t stream);

// Logits (rows, pitch) become softmax(logits) - onehot(target), and zero in a row without a target. T: float or Bf16.
template <typename T>
cudaError_t GradientOfRows(const SplitSizes& sizes, const RowReduction* all, const int32_t* targets, T* logits,
                           int64_t pitch, cudaStream_t stream);

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_KERNELS_CROSS_ENTROPY_H_
