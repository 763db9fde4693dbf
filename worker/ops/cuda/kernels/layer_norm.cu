#include "worker/ops/cuda/kernels/layer_norm.h"

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kRowsPerBlock = 4;  // a warp each
constexpr int kColumns = 32;
constexpr int kRows = 8;

// A warp goes over its row three times: the first time from memory, then from the cache. With `other` the row is x +
// other, which is rounded and written to `sum`: from then on each thread reads what it wrote itself.
template <typename T, bool kOfSum>
__global__ void ForwardKernel(const T* x, const T* other, T* sum_out, const T* gamma, const T* beta, int64_t rows,
                              int64_t width, float epsilon, T* y, float* mean_out, float* reciprocal_std_out) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.y;
  if (row >= rows) return;  // whole warps
  const int lane = threadIdx.x;
  const float scale = 1.0F / static_cast<float>(width);
  const T* const in = (kOfSum ? sum_out : x) + row * width;
  float sum = 0;
  for (int64_t i = lane; i < width; i += kWarpThreads) {
    const int64_t at = row * width + i;
    if (kOfSum) Store(sum_out + at, Load(x + at) + Load(other + at));
    sum += Load(in + i);
  }
  const float mean = GroupSum(sum) * scale;
  float squares = 0;
  for (int64_t i = lane; i < width; i += kWarpThreads) {
    const float centered = Load(in + i) - mean;
    squares += centered * centered;
  }
  const float reciprocal_std = 1.0F / sqrtf(GroupSum(squares) * scale + epsilon);
  for (int64_t i = lane; i < width; i += kWarpThreads) {
    const float normal = (Load(in + i) - mean) * reciprocal_std;
    Store(y + row * width + i, normal * Load(gamma + i) + Load(beta + i));
  }
  if (lane == 0) {
    mean_out[row] = mean;
    reciprocal_std_out[row] = reciprocal_std;
  }
}

// With n the normalised x and g = dy * gamma: dx = (g - mean(g) - n mean(g n)) / std.
template <typename T>
__global__ void InputGradientKernel(const T* x, const T* gamma, const float* means, const float* reciprocal_stds,
                                    const T* dy, int64_t rows, int64_t width, T* dx) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.y;
  if (row >= rows) return;  // whole warps
  const int lane = threadIdx.x;
  const float scale = 1.0F / static_cast<float>(width);
  const float mean = means[row];
  const float reciprocal_std = reciprocal_stds[row];
  const T* const in = x + row * width;
  const T* const gradient = dy + row * width;
  float sum = 0;
  float product = 0;
  for (int64_t i = lane; i < width; i += kWarpThreads) {
    const float g = Load(gradient + i) * Load(gamma + i);
    sum += g;
    product += g * ((Load(in + i) - mean) * reciprocal_std);
  }
  const float g_mean = GroupSum(sum) * scale;
  const float gn_mean = GroupSum(product) * scale;
  for (int64_t i = lane; i < width; i += kWarpThreads) {
    const float g = Load(gradient + i) * Load(gamma + i);
    const float n = (Load(in + i) - mean) * reciprocal_std;
    T* const out = dx + row * width + i;
    Store(out, Load(out) + (g - g_mean - n * gn_mean) * reciprocal_std);
  }
}

// Block (x, part): for kColumns columns the sums of dy n (gamma's gradient) and of dy (beta's) over the part's rows.
template <typename T>
__global__ void ParameterGradientKernel(const T* x, const float* means, const float* reciprocal_stds, const T* dy,
                                        int64_t rows, int64_t width, int64_t rows_per_part, float* gamma_partial,
                                        float* beta_partial) {
  __shared__ float gamma_sums[kRows][kColumns];
  __shared__ float beta_sums[kRows][kColumns];
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * rows_per_part;
  const int64_t end = begin + rows_per_part < rows ? begin + rows_per_part : rows;
  float gamma_sum = 0;
  float beta_sum = 0;
  if (column < width) {
    for (int64_t row = begin + threadIdx.y; row < end; row += kRows) {
      const float g = Load(dy + row * width + column);
      gamma_sum += g * ((Load(x + row * width + column) - means[row]) * reciprocal_stds[row]);
      beta_sum += g;
    }
  }
  gamma_sums[threadIdx.y][threadIdx.x] = gamma_sum;
  beta_sums[threadIdx.y][threadIdx.x] = beta_sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= width) return;
  for (int k = 1; k < kRows; ++k) {
    gamma_sum += gamma_sums[k][threadIdx.x];
    beta_sum += beta_sums[k][threadIdx.x];
  }
  gamma_partial[blockIdx.y * width + column] = gamma_sum;
  beta_partial[blockIdx.y * width + column] = beta_sum;
}

}  // namespace

template <typename T>
cudaError_t LayerNormForward(const T* x, const T* gamma, const T* beta, int64_t rows, int64_t width, float epsilon,
                             T* y, float* mean, float* reciprocal_std, cudaStream_t stream) {
  return Launch(ForwardKernel<T, false>, dim3(BlocksFor(rows, kRowsPerBlock)), dim3(kWarpThreads, kRowsPerBlock), 0,
                stream, x, x, static_cast<T*>(nullptr), gamma, beta, rows, width, epsilon, y, mean, reciprocal_std);
}

template <typename T>
cudaError_t LayerNormForwardOfSum(const T* a, const T* b, T* sum, const T* gamma, const T* beta, int64_t rows,
                                  int64_t width, float epsilon, T* y, float* mean, float* reciprocal_std,
                                  cudaStream_t stream) {
  return Launch(ForwardKernel<T, true>, dim3(BlocksFor(rows, kRowsPerBlock)), dim3(kWarpThreads, kRowsPerBlock), 0,
                stream, a, b, sum, gamma, beta, rows, width, epsilon, y, mean, reciprocal_std);
}

template <typename T>
cudaError_t LayerNormBackward(const T* x, const T* gamma, const float* mean, const float* reciprocal_std, const T* dy,
                              int64_t rows, int64_t width, float* workspace, T* dx, float* dgamma, float* dbeta,
                              cudaStream_t stream) {
  cudaError_t error =
      Launch(InputGradientKernel<T>, dim3(BlocksFor(rows, kRowsPerBlock)), dim3(kWarpThreads, kRowsPerBlock), 0, stream,
             x, gamma, mean, reciprocal_std, dy, rows, width, dx);
  if (error != cudaSuccess) return error;
  const int64_t rows_per_part = BlocksFor(rows, ColumnSumParts(rows));
  const int64_t parts = BlocksFor(rows, rows_per_part);
  float* const beta_partial = workspace + ColumnSumParts(rows) * width;
  error = Launch(ParameterGradientKernel<T>, dim3(BlocksFor(width, kColumns), static_cast<unsigned>(parts)),
                 dim3(kColumns, kRows), 0, stream, x, mean, reciprocal_std, dy, rows, width, rows_per_part, workspace,
                 beta_partial);
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
