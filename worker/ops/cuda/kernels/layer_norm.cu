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

// With n the normalised x and g = dy * gamma: dx = (g - mean(g) - n mean(g n)) / std, gamma's gradient is the sum over
// rows of dy n, beta's that of dy.
//
// A block goes through a part of the rows and reads each value once. A row belongs to `row_warps` of its warps, as many
// as it takes for kLanePacks packs in a lane, which keeps the sums of its columns in registers. What the block's warps
// have for the same columns is added in their order, and parts in theirs by PartialSums.
constexpr int kLanePacks = 3;
constexpr int kGradientWarps = 8;
constexpr int64_t kGradientWidthMax = static_cast<int64_t>(kLanePacks) * kGradientWarps * kWarpThreads * kPack;

template <typename T>
__global__ void __launch_bounds__(kGradientWarps* kWarpThreads, 2)
    GradientKernel(const T* x, const T* gamma, const float* means, const float* reciprocal_stds, const T* dy,
                   int64_t rows, int64_t width, int64_t rows_per_part, int row_warps, bool aligned, T* dx,
                   float* partial) {
  __shared__ float row_sums[2][kGradientWarps][2];  // of two rows by turns
  __shared__ float others[kGradientWarps][kPack][kWarpThreads];
  const int lane = static_cast<int>(threadIdx.x);
  const int warp = static_cast<int>(threadIdx.y);
  const int columns = static_cast<int>(width);
  const int member = warp % row_warps;
  const int at_once = kGradientWarps / row_warps;
  const float scale = 1.0F / static_cast<float>(width);
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * rows_per_part;
  const int count = static_cast<int>(begin + rows_per_part < rows ? rows_per_part : rows - begin);
  const auto column = [&](int i) { return ((i * row_warps + member) * kWarpThreads + lane) * kPack; };
  Pack dgamma[kLanePacks] = {};
  Pack dbeta[kLanePacks] = {};
  int turn = 0;
#pragma unroll 1
  for (int first = 0; first < count; first += at_once, turn ^= 1) {
    const bool inside = first + warp / row_warps < count;
    const int64_t row = begin + first + warp / row_warps;
    const int64_t offset = row * width;
    const float mean = inside ? means[row] : 0.0F;
    const float reciprocal_std = inside ? reciprocal_stds[row] : 0.0F;
    Pack normal[kLanePacks] = {};
    Pack gradient[kLanePacks] = {};
    float sum = 0;
    float product = 0;
#pragma unroll
    for (int i = 0; i < kLanePacks; ++i) {
      const int left = columns - column(i);
      if (!inside || left <= 0) continue;
      normal[i] = LoadPack(x + offset + column(i), left, aligned);
      gradient[i] = LoadPack(dy + offset + column(i), left, aligned);
      const Pack scales = LoadPack(gamma + column(i), left, aligned);
#pragma unroll
      for (int k = 0; k < kPack; ++k) {
        const float n = (normal[i].v[k] - mean) * reciprocal_std;
        const float g = gradient[i].v[k] * scales.v[k];  // zero behind the row's end
        dgamma[i].v[k] += gradient[i].v[k] * n;
        dbeta[i].v[k] += gradient[i].v[k];
        sum += g;
        product += g * n;
        normal[i].v[k] = n;
        gradient[i].v[k] = g;
      }
    }
    sum = GroupSum(sum);
    product = GroupSum(product);
    if (row_warps > 1) {
      if (lane == 0) {
        row_sums[turn][warp][0] = sum;
        row_sums[turn][warp][1] = product;
      }
      __syncthreads();  // who is still at the row before last has what he needs of it
      sum = 0;
      product = 0;
      for (int w = warp - member; w < warp - member + row_warps; ++w) {
        sum += row_sums[turn][w][0];
        product += row_sums[turn][w][1];
      }
    }
    const float g_mean = sum * scale;
    const float gn_mean = product * scale;
#pragma unroll
    for (int i = 0; i < kLanePacks; ++i) {
      const int left = columns - column(i);
      if (!inside || left <= 0) continue;
      T* const out = dx + offset + column(i);
      Pack result = LoadPack(out, left, aligned);
#pragma unroll
      for (int k = 0; k < kPack; ++k) {
        result.v[k] += (gradient[i].v[k] - g_mean - normal[i].v[k] * gn_mean) * reciprocal_std;
      }
      StorePack(out, result, left, aligned);
    }
  }
#pragma unroll
  for (int i = 0; i < 2 * kLanePacks; ++i) {
    Pack& mine = i < kLanePacks ? dgamma[i % kLanePacks] : dbeta[i % kLanePacks];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kPack; ++k) others[warp][k][lane] = mine.v[k];
    __syncthreads();
    const int left = columns - column(i % kLanePacks);
    if (warp >= row_warps || left <= 0) continue;
    for (int w = warp + row_warps; w < kGradientWarps; w += row_warps) {
#pragma unroll
      for (int k = 0; k < kPack; ++k) mine.v[k] += others[w][k][lane];
    }
    float* const to = partial + (2 * static_cast<int64_t>(blockIdx.x) + i / kLanePacks) * width;
    StorePack(to + column(i % kLanePacks), mine, left, false);
  }
}

// Of rows that are wider than that: dx alone, and its sums read again.
template <typename T>
__global__ void WideInputGradientKernel(const T* x, const T* gamma, const float* means, const float* reciprocal_stds,
                                        const T* dy, int64_t rows, int64_t width, bool aligned, T* dx) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= rows) return;  // whole warps
  const int lane = threadIdx.x;
  const float scale = 1.0F / static_cast<float>(width);
  const float mean = means[row];
  const float reciprocal_std = reciprocal_stds[row];
  // run(pack's first column, values left, n, g)
  const auto each = [&](const auto& run) {
    for (int64_t column = lane * kPack; column < width; column += kWarpThreads * kPack) {
      const int64_t left = width - column;
      Pack n = LoadPack(x + row * width + column, left, aligned);
      Pack g = LoadPack(dy + row * width + column, left, aligned);
      const Pack scales = LoadPack(gamma + column, left, aligned);
#pragma unroll
      for (int k = 0; k < kPack; ++k) {
        n.v[k] = (n.v[k] - mean) * reciprocal_std;
        g.v[k] *= scales.v[k];  // zero behind the row's end
      }
      run(column, left, n, g);
    }
  };
  float sum = 0;
  float product = 0;
  each([&](int64_t, int64_t, const Pack& n, const Pack& g) {
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      sum += g.v[k];
      product += g.v[k] * n.v[k];
    }
  });
  const float g_mean = GroupSum(sum) * scale;
  const float gn_mean = GroupSum(product) * scale;
  each([&](int64_t column, int64_t left, const Pack& n, const Pack& g) {
    T* const out = dx + row * width + column;
    Pack result = LoadPack(out, left, aligned);
#pragma unroll
    for (int k = 0; k < kPack; ++k) result.v[k] += (g.v[k] - g_mean - n.v[k] * gn_mean) * reciprocal_std;
    StorePack(out, result, left, aligned);
  });
}

// Sums over a part's rows of dy n (gamma's gradient) and of dy (beta's).
template <typename T>
__global__ void WideParameterGradientKernel(const T* x, const float* means, const float* reciprocal_stds, const T* dy,
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

// kernel(true) keeps a row in shared memory, kernel(false) doesn't.
template <typename Kernels, typename... Arguments>
cudaError_t LaunchRows(const Kernels& kernel, int64_t rows, int64_t width, cudaStream_t stream,
                       Arguments... arguments) {
  const int64_t floats = CachedFloats(width);
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
                    rows, width, stream, x, x, static_cast<T*>(nullptr), gamma, beta, rows, width, epsilon,
                    PacksAligned(width, x, gamma, beta, y), y, mean, reciprocal_std);
}

template <typename T>
cudaError_t LayerNormForwardOfSum(const T* a, const T* b, T* sum, const T* gamma, const T* beta, int64_t rows,
                                  int64_t width, float epsilon, T* y, float* mean, float* reciprocal_std,
                                  cudaStream_t stream) {
  return LaunchRows([](bool cached) { return cached ? ForwardKernel<T, true, true> : ForwardKernel<T, true, false>; },
                    rows, width, stream, a, b, sum, gamma, beta, rows, width, epsilon,
                    PacksAligned(width, a, b, sum, gamma, beta, y), y, mean, reciprocal_std);
}

template <typename T>
cudaError_t WideLayerNormBackward(const T* x, const T* gamma, const float* mean, const float* reciprocal_std,
                                  const T* dy, int64_t rows, int64_t width, float* workspace, T* dx, float* dgamma,
                                  float* dbeta, bool add, cudaStream_t stream) {
  cudaError_t error =
      Launch(WideInputGradientKernel<T>, dim3(BlocksFor(rows, kRowsPerBlock)), dim3(kWarpThreads, kRowsPerBlock), 0,
             stream, x, gamma, mean, reciprocal_std, dy, rows, width, PacksAligned(width, x, gamma, dy, dx), dx);
  if (error != cudaSuccess) return error;
  const int64_t rows_per_part = BlocksFor(rows, ColumnSumParts(rows));
  const int64_t parts = BlocksFor(rows, rows_per_part);
  float* const beta_partial = workspace + ColumnSumParts(rows) * width;
  error = Launch(WideParameterGradientKernel<T>, ColumnSumGrid(width, parts), ColumnSumBlock(), 0, stream, x, mean,
                 reciprocal_std, dy, rows, width, rows_per_part, PacksAligned(width, x, dy), workspace, beta_partial);
  if (error == cudaSuccess) error = PartialSums(workspace, parts, width, dgamma, nullptr, add, stream);
  return error != cudaSuccess ? error : PartialSums(beta_partial, parts, width, dbeta, nullptr, add, stream);
}

template <typename T>
cudaError_t LayerNormBackward(const T* x, const T* gamma, const float* mean, const float* reciprocal_std, const T* dy,
                              int64_t rows, int64_t width, float* workspace, T* dx, float* dgamma, float* dbeta,
                              bool add, cudaStream_t stream) {
  if (width > kGradientWidthMax) {
    return WideLayerNormBackward(x, gamma, mean, reciprocal_std, dy, rows, width, workspace, dx, dgamma, dbeta, add,
                                 stream);
  }
  int row_warps = 1;
  while (static_cast<int64_t>(row_warps) * kLanePacks * kWarpThreads * kPack < width) row_warps *= 2;
  const int64_t rows_per_part = BlocksFor(rows, LayerNormParts(rows));
  const int64_t parts = BlocksFor(rows, rows_per_part);
  const cudaError_t error = Launch(GradientKernel<T>, dim3(parts), dim3(kWarpThreads, kGradientWarps), 0, stream, x,
                                   gamma, mean, reciprocal_std, dy, rows, width, rows_per_part, row_warps,
                                   PacksAligned(width, x, gamma, dy, dx), dx, workspace);
  return error != cudaSuccess ? error : PartialSums(workspace, parts, width, dgamma, dbeta, add, stream);
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
                                       int64_t, float*, float*, float*, float*, bool, cudaStream_t);
template cudaError_t LayerNormBackward(const Bf16*, const Bf16*, const float*, const float*, const Bf16*, int64_t,
                                       int64_t, float*, Bf16*, float*, float*, bool, cudaStream_t);

}  // namespace penstock::cuda
