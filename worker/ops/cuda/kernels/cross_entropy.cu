#include "worker/ops/cuda/kernels/cross_entropy.h"

#include <cfloat>

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kThreads = 256;

// Of a row's block. A long row has many, so that the rows that are in work lie in the L2 cache together; two blocks for
// a multiprocessor, one of which reads while the other computes.
constexpr int kLongRowThreads = 512;
int RowThreads(int64_t width) { return width < 16384 ? kThreads : kLongRowThreads; }

constexpr int kWarpsMax = kLongRowThreads / kWarpThreads;

__device__ inline int Warps() { return static_cast<int>(blockDim.x) / kWarpThreads; }

// The block's sum or maximum, for every thread.
__device__ inline double BlockSum(double value, double* shared) {
  value = GroupSum(value);
  __syncthreads();  // the last reading of `shared` is over
  if (threadIdx.x % kWarpThreads == 0) shared[threadIdx.x / kWarpThreads] = value;
  __syncthreads();
  double sum = 0;
  for (int k = 0; k < Warps(); ++k) sum += shared[k];
  return sum;
}
__device__ inline float BlockMax(float value, float* shared) {
  value = GroupMax(value);
  __syncthreads();
  if (threadIdx.x % kWarpThreads == 0) shared[threadIdx.x / kWarpThreads] = value;
  __syncthreads();
  float maximum = shared[0];
  for (int k = 1; k < Warps(); ++k) maximum = fmaxf(maximum, shared[k]);
  return maximum;
}

struct RowSoftmax {
  float maximum;
  double sum;  // of e^(logit - maximum)
};

// Packs that a thread has on their way at once; of neighbouring threads each.
template <typename T>
constexpr int kAhead = sizeof(T) == sizeof(float) ? 2 : 4;

// `aligned`: rows begin at multiples of 16 bytes and so do their ends, so what is behind a row's `width` values up to a
// whole pack is its own and may be read and written. A batch of a row, the first of which a thread begins at `at` with
// `left` values; -infinity behind them.
template <typename T>
__device__ __forceinline__ void LoadLogits(const T* at, int64_t left, bool aligned, Pack (&packs)[kAhead<T>]) {
  const int64_t stride = static_cast<int64_t>(blockDim.x) * kPack;
  LoadPacks(at, stride, left, aligned, packs);
  if (left >= (kAhead<T> - 1) * stride + kPack) return;
#pragma unroll
  for (int i = 0; i < kAhead<T> * kPack; ++i) {
    if (i / kPack * stride + i % kPack >= left) packs[i / kPack].v[i % kPack] = -INFINITY;
  }
}

// Of a row, by the whole block, which reads it once: each thread brings its sum to its largest value so far (Milakov,
// Gimelshein 2018), once for each batch. A NaN doesn't count for the maximum but makes the sum one.
template <typename T>
__device__ inline RowSoftmax ReduceRow(const T* at, int64_t width, bool aligned) {
  __shared__ double sums[kWarpsMax];
  __shared__ float maxima[kWarpsMax];
  const int64_t batch = static_cast<int64_t>(blockDim.x) * kPack * kAhead<T>;
  float largest = -FLT_MAX;  // below it a value of -infinity adds nothing
  float sum = 0;
#pragma unroll 1
  for (int64_t i = threadIdx.x * kPack; i < width; i += batch) {
    Pack packs[kAhead<T>];
    LoadLogits(at + i, width - i, aligned, packs);
    float top = largest;
#pragma unroll
    for (int k = 0; k < kAhead<T> * kPack; ++k) top = fmaxf(top, packs[k / kPack].v[k % kPack]);
    sum *= Exponential<T>(largest - top);
#pragma unroll
    for (int k = 0; k < kAhead<T> * kPack; ++k) sum += Exponential<T>(packs[k / kPack].v[k % kPack] - top);
    largest = top;
  }
  const float maximum = BlockMax(largest, maxima);
  return {maximum, BlockSum(static_cast<double>(sum * Exponential<T>(largest - maximum)), sums)};
}

// The gradient of a row in place of its logits; its target is column `target` of these columns, or none of them. Behind
// the row's end it is zero.
template <typename T>
__device__ inline void WriteGradient(T* at, int64_t width, bool aligned, const RowSoftmax& softmax, int64_t target) {
  const int64_t stride = static_cast<int64_t>(blockDim.x) * kPack;
  const float scale = static_cast<float>(1.0 / softmax.sum);
#pragma unroll 1
  for (int64_t i = threadIdx.x * kPack; i < width; i += stride * kAhead<T>) {
    Pack packs[kAhead<T>];
    LoadLogits(at + i, width - i, aligned, packs);
#pragma unroll
    for (int a = 0; a < kAhead<T>; ++a) {
#pragma unroll
      for (int k = 0; k < kPack; ++k) packs[a].v[k] = Exponential<T>(packs[a].v[k] - softmax.maximum) * scale;
      const int64_t column = target - i - a * stride;  // in this pack, mostly not
      if (column >= 0 && column < kPack) {
#pragma unroll
        for (int k = 0; k < kPack; ++k) packs[a].v[k] -= k == column ? 1.0F : 0.0F;
      }
    }
    StorePacks(at + i, packs, stride, width - i, aligned);
  }
}
template <typename T>
__device__ inline void WriteZeros(T* at, int64_t width, bool aligned) {
  for (int64_t i = threadIdx.x * kPack; i < width; i += blockDim.x * kPack) {
    StorePack(at + i, Pack{}, width - i, aligned);
  }
}

__device__ inline double LossOf(const RowSoftmax& softmax, double target_logit) {
  return log(softmax.sum) - (target_logit - static_cast<double>(softmax.maximum));
}

// A block for each row. With kGradient the row becomes its gradient at once: the columns are the whole vocabulary.
template <typename T, bool kGradient>
__global__ void __launch_bounds__(kLongRowThreads, 2)
    ReduceKernel(SplitSizes sizes, T* logits, int64_t pitch, bool aligned, const int32_t* targets,
                 RowReduction* reductions) {
  const int64_t row = blockIdx.x;
  const int64_t width = sizes.vocab_end - sizes.vocab_begin;
  T* const at = logits + row * pitch;
  const RowSoftmax softmax = ReduceRow(at, width, aligned);
  const int64_t target = targets[row] - sizes.vocab_begin;
  if (threadIdx.x == 0) {
    reductions[row].maximum = static_cast<double>(softmax.maximum);
    reductions[row].sum = softmax.sum;
    reductions[row].target_logit =
        targets[row] >= 0 && target >= 0 && target < width ? static_cast<double>(Load(at + target)) : 0.0;
  }
  if (!kGradient) return;
  __syncthreads();  // the target's logit has been read
  if (targets[row] < 0) {
    WriteZeros(at, width, aligned);
  } else {
    WriteGradient(at, width, aligned, softmax, target);
  }
}

// The ranks' reductions of a row combined in their order, by one thread: doubles are what a device has least of.
__device__ inline RowSoftmax CombineRow(const SplitSizes& sizes, const RowReduction* all, int64_t row,
                                        double* target_logit) {
  double maximum = all[row].maximum;
  for (int rank = 1; rank < sizes.ranks; ++rank) maximum = fmax(maximum, all[rank * sizes.rows + row].maximum);
  double sum = 0;
  *target_logit = 0;
  for (int rank = 0; rank < sizes.ranks; ++rank) {
    const RowReduction part = all[rank * sizes.rows + row];
    sum += part.sum * exp(part.maximum - maximum);
    *target_logit += part.target_logit;
  }
  return {static_cast<float>(maximum), sum};
}

// A thread for each row.
__global__ void LossKernel(SplitSizes sizes, const RowReduction* all, const int32_t* targets, double* losses) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= sizes.rows) return;
  double target_logit = 0;
  const RowSoftmax softmax = CombineRow(sizes, all, row, &target_logit);
  losses[row] = targets[row] < 0 ? 0 : LossOf(softmax, target_logit);
}

// A block for each row.
template <typename T>
__global__ void __launch_bounds__(kLongRowThreads, 2)
    GradientKernel(SplitSizes sizes, const RowReduction* all, const int32_t* targets, T* logits, int64_t pitch,
                   bool aligned) {
  const int64_t row = blockIdx.x;
  const int64_t width = sizes.vocab_end - sizes.vocab_begin;
  T* const at = logits + row * pitch;
  if (targets[row] < 0) {
    WriteZeros(at, width, aligned);
    return;  // the whole block
  }
  __shared__ RowSoftmax softmax;
  if (threadIdx.x == 0) {
    double target_logit = 0;
    softmax = CombineRow(sizes, all, row, &target_logit);
  }
  __syncthreads();
  WriteGradient(at, width, aligned, softmax, targets[row] - sizes.vocab_begin);
}

// One block.
__global__ void TotalKernel(const double* losses, const int32_t* targets, int64_t rows, LossSum* total, bool add) {
  __shared__ double sums[kWarpsMax];
  double loss = 0;
  double count = 0;  // exact up to 2^53
  for (int64_t row = threadIdx.x; row < rows; row += kThreads) {
    loss += losses[row];
    count += targets[row] < 0 ? 0 : 1;
  }
  loss = BlockSum(loss, sums);
  count = BlockSum(count, sums);
  if (threadIdx.x == 0) {
    total->loss = loss + (add ? total->loss : 0);
    total->target_count = static_cast<int64_t>(count) + (add ? total->target_count : 0);
  }
}

}  // namespace

template <typename T>
cudaError_t ReduceRows(const SplitSizes& sizes, T* logits, int64_t pitch, const int32_t* targets, bool gradient,
                       RowReduction* reductions, cudaStream_t stream) {
  return Launch(gradient ? ReduceKernel<T, true> : ReduceKernel<T, false>, dim3(static_cast<unsigned>(sizes.rows)),
                dim3(RowThreads(sizes.vocab_end - sizes.vocab_begin)), 0, stream, sizes, logits, pitch,
                PacksAligned(pitch, logits), targets, reductions);
}

cudaError_t LossOfRows(const SplitSizes& sizes, const RowReduction* all, const int32_t* targets, double* losses,
                       LossSum* total, bool add, cudaStream_t stream) {
  const cudaError_t error =
      Launch(LossKernel, dim3(BlocksFor(sizes.rows, kThreads)), dim3(kThreads), 0, stream, sizes, all, targets, losses);
  if (error != cudaSuccess) return error;
  return Launch(TotalKernel, dim3(1), dim3(kThreads), 0, stream, losses, targets, sizes.rows, total, add);
}

template <typename T>
cudaError_t GradientOfRows(const SplitSizes& sizes, const RowReduction* all, const int32_t* targets, T* logits,
                           int64_t pitch, cudaStream_t stream) {
  return Launch(GradientKernel<T>, dim3(static_cast<unsigned>(sizes.rows)),
                dim3(RowThreads(sizes.vocab_end - sizes.vocab_begin)), 0, stream, sizes, all, targets, logits, pitch,
                PacksAligned(pitch, logits));
}

template cudaError_t ReduceRows(const SplitSizes&, float*, int64_t, const int32_t*, bool, RowReduction*, cudaStream_t);
template cudaError_t ReduceRows(const SplitSizes&, Bf16*, int64_t, const int32_t*, bool, RowReduction*, cudaStream_t);
template cudaError_t GradientOfRows(const SplitSizes&, const RowReduction*, const int32_t*, float*, int64_t,
                                    cudaStream_t);
template cudaError_t GradientOfRows(const SplitSizes&, const RowReduction*, const int32_t*, Bf16*, int64_t,
                                    cudaStream_t);

}  // namespace penstock::cuda
