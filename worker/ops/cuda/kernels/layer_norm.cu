#include "worker/ops/cuda/kernels/layer_norm.h"

#include "worker/ops/cuda/kernels/column_sum.cuh"
#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kRowsPerBlock = 4;  // a warp each, less where their shared memory doesn't suffice
constexpr int64_t kSharedFloats = (48 << 10) / sizeof(float);  // what a block may have everywhere

// A row belongs to a warp, its packs to the lanes by turns, whether or not they can be moved by 16 bytes: a row's sums
// depend on its width alone. A lane reads its packs once and keeps them in the shared memory, where nobody else looks:
// value k of its p-th pack at [p][k][lane], so that a warp's lanes are in different banks. Rows that are too wide for
// that (kCached false) are read again.
template <typename T, bool kCached>
struct RowReader {
  const T* row;
  int64_t width;
  bool aligned;
  float* cache;  // of the lane

  __device__ int64_t packs() const { return (width + kPack - 1) / kPack; }
  __device__ Pack First(int64_t pack) const { return LoadPack(row + pack * kPack, width - pack * kPack, aligned); }
  __device__ void Keep(int64_t pack, const Pack& values) const {
    if constexpr (kCached) {
#pragma unroll
      for (int k = 0; k < kPack; ++k) cache[(pack / kWarpThreads * kPack + k) * kWarpThreads] = values.v[k];
    }
  }
  __device__ Pack Again(int64_t pack) const {
    if constexpr (kCached) {
      Pack values;
#pragma unroll
      for (int k = 0; k < kPack; ++k) values.v[k] = cache[(pack / kWarpThreads * kPack + k) * kWarpThreads];
      return values;
    } else {
      return First(pack);
    }
  }
};

__host__ __device__ inline int64_t CachedFloats(int64_t width) {
  constexpr int64_t kRound = kPack * kWarpThreads;
  return (width + kRound - 1) / kRound * kRound;
}

template <typename T>
__device__ inline float Rounded(float value) {
  T rounded;
  Store(&rounded, value);
  return Load(&rounded);
}

// With `other` the row is x + other, which is rounded and written to `sum`.
template <typename T, bool kOfSum, bool kCached>
__global__ void ForwardKernel(const T* x, const T* other, T* sum_out, const T* gamma, const T* beta, int64_t rows,
                              int64_t width, float epsilon, bool aligned, T* y, float* mean_out,
                              float* reciprocal_std_out) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= rows) return;  // whole warps
  PENSTOCK_DYNAMIC_SHARED(float, shared);
  const int lane = threadIdx.x;
  const float scale = 1.0F / static_cast<float>(width);
  const RowReader<T, kCached> reader = {(kOfSum ? sum_out : x) + row * width, width, aligned,
                                        shared + threadIdx.y * CachedFloats(width) + lane};
  float sum = 0;
  for (int64_t pack = lane; pack < reader.packs(); pack += kWarpThreads) {
    const int64_t at = row * width + pack * kPack;
    const int64_t left = width - pack * kPack;
    Pack values = LoadPack(x + at, left, aligned);
    if (kOfSum) {
      const Pack more = LoadPack(other + at, left, aligned);
#pragma unroll
      for (int k = 0; k < kPack; ++k) values.v[k] = Rounded<T>(values.v[k] + more.v[k]);
      StorePack(sum_out + at, values, left, aligned);
    }
    reader.Keep(pack, values);
#pragma unroll
    for (int k = 0; k < kPack; ++k) sum += values.v[k];  // zeros behind the row's end
  }
  const float mean = GroupSum(sum) * scale;
  float squares = 0;
  for (int64_t pack = lane; pack < reader.packs(); pack += kWarpThreads) {
    const Pack values = reader.Again(pack);
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      const float centered = pack * kPack + k < width ? values.v[k] - mean : 0.0F;
      squares += centered * centered;
    }
  }
  const float reciprocal_std = 1.0F / sqrtf(GroupSum(squares) * scale + epsilon);
  for (int64_t pack = lane; pack < reader.packs(); pack += kWarpThreads) {
    const int64_t left = width - pack * kPack;
    const Pack g = LoadPack(gamma + pack * kPack, left, aligned);
    const Pack b = LoadPack(beta + pack * kPack, left, aligned);
    Pack values = reader.Again(pack);
#pragma unroll
    for (int k = 0; k < kPack; ++k) values.v[k] = (values.v[k] - mean) * reciprocal_std * g.v[k] + b.v[k];
    StorePack(y + row * width + pack * kPack, values, left, aligned);
  }
  if (lane == 0) {
    mean_out[row] = mean;
    reciprocal_std_out[row] = reciprocal_std;
  }
}

// With n the normalised x and g = dy * gamma: dx = (g - mean(g) - n mean(g n)) / std.
template <typename T, bool kCached>
__global__ void InputGradientKernel(const T* x, const T* gamma, const float* means, const float* reciprocal_stds,
                                    const T* dy, int64_t rows, int64_t width, bool aligned, T* dx) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= rows) return;  // whole warps
  PENSTOCK_DYNAMIC_SHARED(float, shared);
  const int lane = threadIdx.x;
  const float scale = 1.0F / static_cast<float>(width);
  const float mean = means[row];
  const float reciprocal_std = reciprocal_stds[row];
  float* const cache = shared + threadIdx.y * 2 * CachedFloats(width) + lane;
  const RowReader<T, kCached> inputs = {x + row * width, width, aligned, cache};
  const RowReader<T, kCached> gradients = {dy + row * width, width, aligned, cache + CachedFloats(width)};
  float sum = 0;
  float product = 0;
  for (int64_t pack = lane; pack < inputs.packs(); pack += kWarpThreads) {
    const Pack scales = LoadPack(gamma + pack * kPack, width - pack * kPack, aligned);
    const Pack in = inputs.First(pack);
    const Pack gradient = gradients.First(pack);
    inputs.Keep(pack, in);
    gradients.Keep(pack, gradient);
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      const float g = gradient.v[k] * scales.v[k];  // zero behind the row's end
      sum += g;
      product += g * ((in.v[k] - mean) * reciprocal_std);
    }
  }
  const float g_mean = GroupSum(sum) * scale;
  const float gn_mean = GroupSum(product) * scale;
  for (int64_t pack = lane; pack < inputs.packs(); pack += kWarpThreads) {
    const int64_t left = width - pack * kPack;
    const Pack scales = LoadPack(gamma + pack * kPack, left, aligned);
    const Pack in = inputs.Again(pack);
    const Pack gradient = gradients.Again(pack);
    T* const out = dx + row * width + pack * kPack;
    Pack result = LoadPack(out, left, aligned);
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      const float n = (in.v[k] - mean) * reciprocal_std;
      result.v[k] += (gradient.v[k] * scales.v[k] - g_mean - n * gn_mean) * reciprocal_std;
    }
    StorePack(out, result, left, aligned);
  }
}

// Sums over a part's rows of dy n (gamma's gradient) and of dy (beta's).
template <typename T>
__global__ void ParameterGradientKernel(const T* x, const float* means, const float* reciprocal_stds, const T* dy,
                                        int64_t rows, int64_t width, int64_t rows_per_part, bool aligned,
                                        float* gamma_partial, float* beta_partial) {
  SumPart<2>(
      [&](int64_t row, int64_t column, int64_t left, Pack(&packs)[2]) {
        const Pack in = LoadPack(x + row * width + column, left, aligned);
        packs[1] = LoadPack(dy + row * width + column, left, aligned);
        const float mean = means[row];
        const float reciprocal_std = reciprocal_stds[row];
#pragma unroll
        for (int k = 0; k < kPack; ++k) packs[0].v[k] = packs[1].v[k] * ((in.v[k] - mean) * reciprocal_std);
      },
      rows, width, rows_per_part, {gamma_partial, beta_partial});
}

// kernel(true) keeps `arrays` arrays of a row in shared memory, kernel(false) none.
template <typename Kernels, typename... Arguments>
cudaError_t LaunchRows(const Kernels& kernel, int arrays, int64_t rows, int64_t width, cudaStream_t stream,
                       Arguments... arguments) {
  const int64_t floats = arrays * CachedFloats(width);
  int64_t at_once = kRowsPerBlock;
  while (at_once > 1 && at_once * floats > kSharedFloats) at_once /= 2;
  const bool cached = floats <= kSharedFloats;
  const int64_t in_block = cached ? at_once : kRowsPerBlock;
  return Launch(kernel(cached), dim3(BlocksFor(rows, in_block)), dim3(kWarpThreads, static_cast<unsigned>(in_block)),
                cached ? static_cast<size_t>(at_once * floats) * sizeof(float) : 0, stream, arguments...);
}

}  // namespace

template <typename T>
cudaError_t LayerNormForward(const T* x, const T* gamma, const T* beta, int64_t rows, int64_t width, float epsilon,
                             T* y, float* mean, float* reciprocal_std, cudaStream_t stream) {
  return LaunchRows([](bool cached) { return cached ? ForwardKernel<T, false, true> : ForwardKernel<T, false, false>; },
                    1, rows, width, stream, x, x, static_cast<T*>(nullptr), gamma, beta, rows, width, epsilon,
                    PacksAligned(width, x, gamma, beta, y), y, mean, reciprocal_std);
}

template <typename T>
cudaError_t LayerNormForwardOfSum(const T* a, const T* b, T* sum, const T* gamma, const T* beta, int64_t rows,
                                  int64_t width, float epsilon, T* y, float* mean, float* reciprocal_std,
                                  cudaStream_t stream) {
  return LaunchRows([](bool cached) { return cached ? ForwardKernel<T, true, true> : ForwardKernel<T, true, false>; },
                    1, rows, width, stream, a, b, sum, gamma, beta, rows, width, epsilon,
                    PacksAligned(width, a, b, sum, gamma, beta, y), y, mean, reciprocal_std);
}

template <typename T>
cudaError_t LayerNormBackward(const T* x, const T* gamma, const float* mean, const float* reciprocal_std, const T* dy,
                              int64_t rows, int64_t width, float* workspace, T* dx, float* dgamma, float* dbeta,
                              cudaStream_t stream) {
  cudaError_t error = LaunchRows(
      [](bool cached) { return cached ? InputGradientKernel<T, true> : InputGradientKernel<T, false>; }, 2, rows, width,
      stream, x, gamma, mean, reciprocal_std, dy, rows, width, PacksAligned(width, x, gamma, dy, dx), dx);
  if (error != cudaSuccess) return error;
  const int64_t rows_per_part = BlocksFor(rows, ColumnSumParts(rows));
  const int64_t parts = BlocksFor(rows, rows_per_part);
  float* const beta_partial = workspace + ColumnSumParts(rows) * width;
  error = Launch(ParameterGradientKernel<T>, ColumnSumGrid(width, parts), ColumnSumBlock(), 0, stream, x, mean,
                 reciprocal_std, dy, rows, width, rows_per_part, PacksAligned(width, x, dy), workspace, beta_partial);
  if (error != cudaSuccess) return error;
  error = AddPartialSums(workspace, parts, width, dgamma, stream);
  return error != cudaSuccess ? error : AddPartialSums(beta_partial, parts, width, dbeta, stream);
}

template cudaError_t LayerNormForward(const float*, const float*, const float*, int64_t, int64_t, float, float*, float*,
                                      float*, cudaStream_t);
template cudaError_t LayerNormForward(const Bf16*, const Bf16*, const Bf16*, int64_t, int64_t, float, Bf16*, float*,
                                      float*, cudaStream_t);
template cudaError_t LayerNormForwardOfSum(const float*, const float*, float*, const float*, const float*, int64_t,
                                           int64_t, float, float*, float*, float*, cudaStream_t);
template cudaError_t LayerNormForwardOfSum(const Bf16*, const Bf16*, Bf16*, const Bf16*, const Bf16*, int64_t, int64_t,
                                           float, Bf16*, float*, float*, cudaStream_t);
template cudaError_t LayerNormBackward(const float*, const float*, const float*, const float*, const float*, int64_t,
                                       int64_t, float*, float*, float*, float*, cudaStream_t);
template cudaError_t LayerNormBackward(const Bf16*, const Bf16*, const float*, const float*, const Bf16*, int64_t,
                                       int64_t, float*, Bf16*, float*, float*, cudaStream_t);

}  // namespace penstock::cuda
