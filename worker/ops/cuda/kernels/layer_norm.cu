#include "worker/ops/cuda/kernels/layer_norm.h"

#include "worker/ops/cuda/kernels/adamw_element.h"
#include "worker/ops/cuda/kernels/column_sum.cuh"
#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

constexpr int kRowsPerBlock = 4;  // of wide rows, a warp each

template <typename T>
__device__ inline float Rounded(float value) {
  T rounded;
  Store(&rounded, value);
  return Load(&rounded);
}

// A row belongs to `row_warps` of a block's warps, as many as it takes for kForwardPacks packs in a lane, which reads
// them once and keeps them; a row's sums depend on its width alone.
constexpr int kForwardPacks = 4;
constexpr int kForwardWarps = 4;  // of a block, or as many as a row needs
constexpr int kForwardWarpsMax = 16;
constexpr int64_t kForwardWidthMax = static_cast<int64_t>(kForwardPacks) * kForwardWarpsMax * kWarpThreads * kPack;

// The sum over a row's warps, in their order. By the whole block; `sums` is used once.
__device__ inline float RowSum(float value, int row_warps, float* sums) {
  value = GroupSum(value);
  if (row_warps == 1) return value;
  const int warp = static_cast<int>(threadIdx.y);
  if (threadIdx.x == 0) sums[warp] = value;
  __syncthreads();
  const int first = warp - warp % row_warps;
  float sum = 0;
#pragma unroll 1
  for (int w = first; w < first + row_warps; ++w) sum += sums[w];
  return sum;
}

// With kOfSum the row is x + other, which is rounded and written to `sum_out`. kAligned: as PacksAligned.
template <typename T, bool kOfSum, bool kAligned>
__global__ void __launch_bounds__(kForwardWarpsMax* kWarpThreads, 2)
    ForwardKernel(const T* x, const T* other, T* sum_out, const T* gamma, const T* beta, int64_t rows, int64_t width,
                  float epsilon, int row_warps, T* y, float* mean_out, float* reciprocal_std_out) {
  constexpr Known<kAligned> aligned;
  __shared__ float sums[2][kForwardWarpsMax];
  const int lane = static_cast<int>(threadIdx.x);
  const int warp = static_cast<int>(threadIdx.y);
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * blockDim.y + warp) / row_warps;
  const int column = (warp % row_warps * kWarpThreads + lane) * kPack;
  const int stride = row_warps * kWarpThreads * kPack;
  const int left = row < rows ? static_cast<int>(width) - column : 0;
  const int64_t at = row * width + column;
  const float scale = 1.0F / static_cast<float>(width);
  Pack values[kForwardPacks];
  LoadPacks(x + at, stride, left, aligned, values);
  if constexpr (kOfSum) {
    Pack more[kForwardPacks];
    LoadPacks(other + at, stride, left, aligned, more);
#pragma unroll
    for (int i = 0; i < kForwardPacks * kPack; ++i) {
      float& value = values[i / kPack].v[i % kPack];
      value = Rounded<T>(value + more[i / kPack].v[i % kPack]);
    }
    StorePacks(sum_out + at, values, stride, left, aligned);
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kForwardPacks * kPack; ++i) sum += values[i / kPack].v[i % kPack];  // zeros behind the row's end
  const float mean = RowSum(sum, row_warps, sums[0]) * scale;
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kForwardPacks * kPack; ++i) {
    const bool there = i / kPack * stride + (kAligned ? 0 : i % kPack) < left;
    const float centered = there ? values[i / kPack].v[i % kPack] - mean : 0.0F;
    squares = ieee::Fma(centered, centered, squares);
  }
  const float reciprocal_std = 1.0F / sqrtf(RowSum(squares, row_warps, sums[1]) * scale + epsilon);
  RawPack<T> gammas[kForwardPacks], betas[kForwardPacks];
  LoadRaws(gamma + column, stride, left, aligned, gammas);
  LoadRaws(beta + column, stride, left, aligned, betas);
#pragma unroll
  for (int i = 0; i < kForwardPacks; ++i) {
    const Pack g = Unpack(gammas[i]);
    const Pack b = Unpack(betas[i]);
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      values[i].v[k] = ieee::Fma((values[i].v[k] - mean) * reciprocal_std, g.v[k], b.v[k]);
    }
  }
  StorePacks(y + at, values, stride, left, aligned);
  if (row < rows && column == 0) {
    mean_out[row] = mean;
    reciprocal_std_out[row] = reciprocal_std;
  }
}

// Of rows that are wider than that: a warp each, which reads them three times.
template <typename T, bool kOfSum>
__global__ void WideForwardKernel(const T* x, const T* other, T* sum_out, const T* gamma, const T* beta, int64_t rows,
                                  int64_t width, float epsilon, bool aligned, T* y, float* mean_out,
                                  float* reciprocal_std_out) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= rows) return;  // whole warps
  const int lane = static_cast<int>(threadIdx.x);
  const float scale = 1.0F / static_cast<float>(width);
  const T* const from = (kOfSum ? sum_out : x) + row * width;
  // run(column, values left)
  const auto each = [&](const auto& run) {
    for (int64_t column = lane * kPack; column < width; column += kWarpThreads * kPack) run(column, width - column);
  };
  float sum = 0;
  each([&](int64_t column, int64_t left) {
    Pack values = LoadPack(x + row * width + column, left, aligned);
    if (kOfSum) {
      const Pack more = LoadPack(other + row * width + column, left, aligned);
#pragma unroll
      for (int k = 0; k < kPack; ++k) values.v[k] = Rounded<T>(values.v[k] + more.v[k]);
      StorePack(sum_out + row * width + column, values, left, aligned);
    }
#pragma unroll
    for (int k = 0; k < kPack; ++k) sum += values.v[k];  // zeros behind the row's end
  });
  const float mean = GroupSum(sum) * scale;
  float squares = 0;
  each([&](int64_t column, int64_t left) {
    const Pack values = LoadPack(from + column, left, aligned);
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      const float centered = k < left ? values.v[k] - mean : 0.0F;
      squares += centered * centered;
    }
  });
  const float reciprocal_std = 1.0F / sqrtf(GroupSum(squares) * scale + epsilon);
  each([&](int64_t column, int64_t left) {
    const Pack g = LoadPack(gamma + column, left, aligned);
    const Pack b = LoadPack(beta + column, left, aligned);
    Pack values = LoadPack(from + column, left, aligned);
#pragma unroll
    for (int k = 0; k < kPack; ++k) values.v[k] = (values.v[k] - mean) * reciprocal_std * g.v[k] + b.v[k];
    StorePack(y + row * width + column, values, left, aligned);
  });
  if (lane == 0) {
    mean_out[row] = mean;
    reciprocal_std_out[row] = reciprocal_std;
  }
}

// With n the normalised x and g = dy * gamma: dx = (g - mean(g) - n mean(g n)) / std, gamma's gradient is the sum over
// rows of dy n, beta's that of dy.
//
// A block goes through a part of the rows and reads each value once. A row belongs to `row_warps` of its warps, as many
// as it takes for kLanePacks packs in a lane, which keeps the sums of its columns in registers, and what it has read as
// it was read. What the block's warps have for the same columns is added in their order, and parts in theirs by
// PartialSums.
template <typename T>
constexpr int kLanePacks = sizeof(T) == sizeof(float) ? 2 : 3;
constexpr int kGradientWarps = 8;
template <typename T>
constexpr int64_t kGradientWidthMax = static_cast<int64_t>(kLanePacks<T>) * kGradientWarps* kWarpThreads* kPack;

template <typename T>
__device__ __forceinline__ Pack Normalised(const RawPack<T>& raw, float mean, float reciprocal_std) {
  Pack values = Unpack(raw);
#pragma unroll
  for (int k = 0; k < kPack; ++k) values.v[k] = (values.v[k] - mean) * reciprocal_std;
  return values;
}
template <typename T>
__device__ __forceinline__ Pack Product(const RawPack<T>& a, const RawPack<T>& b) {
  Pack values = Unpack(a);
  const Pack factors = Unpack(b);
#pragma unroll
  for (int k = 0; k < kPack; ++k) values.v[k] *= factors.v[k];
  return values;
}

template <typename T, bool kAligned>
__global__ void __launch_bounds__(kGradientWarps* kWarpThreads, 2)
    GradientKernel(const T* x, const T* gamma, const float* means, const float* reciprocal_stds, const T* dy,
                   int64_t rows, int64_t width, int64_t rows_per_part, int row_warps, T* dx, float* partial) {
  constexpr Known<kAligned> aligned;
  constexpr int kPacks = kLanePacks<T>;
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
  const int column = (member * kWarpThreads + lane) * kPack;
  const int stride = row_warps * kWarpThreads * kPack;
  // The next row is on its way to the L2 cache while this one is computed with.
  const auto prefetch = [&](int64_t row) {
    if (!kAligned || member != 0 || lane > 2) return;
    PrefetchToL2((lane == 0 ? x : lane == 1 ? dy : dx) + row * width, width * static_cast<int64_t>(sizeof(T)));
  };
  Pack dgamma[kPacks] = {};
  Pack dbeta[kPacks] = {};
  int turn = 0;
#pragma unroll 1
  for (int first = 0; first < count; first += at_once, turn ^= 1) {
    const bool inside = first + warp / row_warps < count;
    const int64_t row = begin + first + warp / row_warps;
    const int64_t offset = row * width;
    const float mean = inside ? means[row] : 0.0F;
    const float reciprocal_std = inside ? reciprocal_stds[row] : 0.0F;
    const int left = inside ? columns - column : 0;
    if (first + at_once + warp / row_warps < count) prefetch(row + at_once);
    RawPack<T> in[kPacks], gradient[kPacks], scales[kPacks], out[kPacks];
    LoadRaws(x + offset + column, stride, left, aligned, in);
    LoadRaws(dy + offset + column, stride, left, aligned, gradient);
    LoadRaws(dx + offset + column, stride, left, aligned, out);
    const T* scales_at = gamma + column;
    LoadRaws(scales_at, stride, left, aligned, scales);
    float sum = 0;
    float product = 0;
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      const Pack n = Normalised(in[i], mean, reciprocal_std);
      const Pack dy_values = Unpack(gradient[i]);
      const Pack g = Product(gradient[i], scales[i]);
#pragma unroll
      for (int k = 0; k < kPack; ++k) {
        dgamma[i].v[k] = ieee::Fma(dy_values.v[k], n.v[k], dgamma[i].v[k]);
        dbeta[i].v[k] += dy_values.v[k];
        sum += g.v[k];
        product = ieee::Fma(g.v[k], n.v[k], product);
      }
      Forget(in[i]);
      Forget(gradient[i]);
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
#pragma unroll 1
      for (int w = warp - member; w < warp - member + row_warps; ++w) {
        sum += row_sums[turn][w][0];
        product += row_sums[turn][w][1];
      }
    }
    const float g_mean = sum * scale;
    const float gn_mean = product * scale;
    Forget(scales_at);  // once more, from the L1 cache
    LoadRaws(scales_at, stride, left, aligned, scales);
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      const Pack n = Normalised(in[i], mean, reciprocal_std);
      const Pack g = Product(gradient[i], scales[i]);
      Pack result = Unpack(out[i]);
#pragma unroll
      for (int k = 0; k < kPack; ++k) {
        result.v[k] = ieee::Fma(ieee::Fma(-gn_mean, n.v[k], g.v[k] - g_mean), reciprocal_std, result.v[k]);
      }
      out[i] = ToRaw<T>(result);
    }
    StoreRaws(dx + offset + column, out, stride, left, aligned);
  }
#pragma unroll
  for (int i = 0; i < 2 * kPacks; ++i) {
    Pack& mine = i < kPacks ? dgamma[i % kPacks] : dbeta[i % kPacks];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kPack; ++k) others[warp][k][lane] = mine.v[k];
    __syncthreads();
    const int at = column + i % kPacks * stride;
    if (warp >= row_warps || at >= columns) continue;
    for (int w = warp + row_warps; w < kGradientWarps; w += row_warps) {
#pragma unroll
      for (int k = 0; k < kPack; ++k) mine.v[k] += others[w][k][lane];
    }
    float* const to = partial + (2 * static_cast<int64_t>(blockIdx.x) + i / kPacks) * width;
    StorePack(to + at, mine, columns - at, false);
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
      [&](int64_t row, int64_t column, int64_t left, auto whole, Pack(&packs)[2]) {
        const Pack in = LoadPackIf(whole, x + row * width + column, left);
        packs[1] = LoadPackIf(whole, dy + row * width + column, left);
        const float mean = means[row];
        const float reciprocal_std = reciprocal_stds[row];
#pragma unroll
        for (int k = 0; k < kPack; ++k) packs[0].v[k] = packs[1].v[k] * ((in.v[k] - mean) * reciprocal_std);
      },
      rows, width, rows_per_part, aligned, {gamma_partial, beta_partial});
}

// As few warps for a row as can keep it.
int RowWarps(int64_t width, int lane_packs) {
  int warps = 1;
  while (static_cast<int64_t>(warps) * lane_packs * kWarpThreads * kPack < width) warps *= 2;
  return warps;
}

template <typename T, bool kOfSum>
cudaError_t LaunchForward(const T* x, const T* other, T* sum, const T* gamma, const T* beta, int64_t rows,
                          int64_t width, float epsilon, T* y, float* mean, float* reciprocal_std, bool aligned,
                          cudaStream_t stream) {
  if (width > kForwardWidthMax) {
    return Launch(WideForwardKernel<T, kOfSum>, dim3(BlocksFor(rows, kRowsPerBlock)), dim3(kWarpThreads, kRowsPerBlock),
                  0, stream, x, other, sum, gamma, beta, rows, width, epsilon, aligned, y, mean, reciprocal_std);
  }
  const int row_warps = RowWarps(width, kForwardPacks);
  const int warps = row_warps < kForwardWarps ? kForwardWarps : row_warps;
  return Launch(aligned ? ForwardKernel<T, kOfSum, true> : ForwardKernel<T, kOfSum, false>,
                dim3(BlocksFor(rows, warps / row_warps)), dim3(kWarpThreads, static_cast<unsigned>(warps)), 0, stream,
                x, other, sum, gamma, beta, rows, width, epsilon, row_warps, y, mean, reciprocal_std);
}

}  // namespace

template <typename T>
cudaError_t LayerNormForward(const T* x, const T* gamma, const T* beta, int64_t rows, int64_t width, float epsilon,
                             T* y, float* mean, float* reciprocal_std, cudaStream_t stream) {
  return LaunchForward<T, false>(x, x, nullptr, gamma, beta, rows, width, epsilon, y, mean, reciprocal_std,
                                 PacksAligned(width, x, gamma, beta, y), stream);
}

template <typename T>
cudaError_t LayerNormForwardOfSum(const T* a, const T* b, T* sum, const T* gamma, const T* beta, int64_t rows,
                                  int64_t width, float epsilon, T* y, float* mean, float* reciprocal_std,
                                  cudaStream_t stream) {
  return LaunchForward<T, true>(a, b, sum, gamma, beta, rows, width, epsilon, y, mean, reciprocal_std,
                                PacksAligned(width, a, b, sum, gamma, beta, y), stream);
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
  if (width > kGradientWidthMax<T>) {
    return WideLayerNormBackward(x, gamma, mean, reciprocal_std, dy, rows, width, workspace, dx, dgamma, dbeta, add,
                                 stream);
  }
  const int64_t rows_per_part = BlocksFor(rows, LayerNormParts(rows));
  const int64_t parts = BlocksFor(rows, rows_per_part);
  const bool aligned = PacksAligned(width, x, gamma, dy, dx);
  const cudaError_t error = Launch(aligned ? GradientKernel<T, true> : GradientKernel<T, false>, dim3(parts),
                                   dim3(kWarpThreads, kGradientWarps), 0, stream, x, gamma, mean, reciprocal_std, dy,
                                   rows, width, rows_per_part, RowWarps(width, kLanePacks<T>), dx, workspace);
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
