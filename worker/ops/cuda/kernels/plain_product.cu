#include "worker/ops/cuda/kernels/plain_product.h"

#include "worker/ops/cuda/kernels/common.cuh"
#include "worker/ops/cuda/kernels/launch.h"

namespace penstock::cuda {
namespace {

// A block has a square tile of D, a thread one element of it.
constexpr int kTile = 16;

template <typename In, typename Out>
__global__ void PlainProductKernel(PlainProductSizes sizes, int64_t tiles_m, const In* a, const In* b, const Out* bias,
                                   const Out* addend, Out* d) {
  __shared__ float a_tile[kTile][kTile + 1];  // (term, row)
  __shared__ float b_tile[kTile][kTile + 1];  // (term, column)
  const int x = static_cast<int>(threadIdx.x);
  const int y = static_cast<int>(threadIdx.y);
  const int64_t row_begin = static_cast<int64_t>(blockIdx.x) % tiles_m * kTile;
  const int64_t column_begin = static_cast<int64_t>(blockIdx.x) / tiles_m * kTile;
  // Neighbouring threads read what lies side by side: rows where a row's elements do, else terms.
  const bool a_rows = sizes.a_row == 1;
  const bool b_rows = sizes.b_row == 1;
  float sum = 0;
  for (int64_t begin = 0; begin < sizes.k; begin += kTile) {
    const int64_t a_at = row_begin + (a_rows ? x : y);
    const int64_t a_term = begin + (a_rows ? y : x);
    const int64_t b_at = column_begin + (b_rows ? x : y);
    const int64_t b_term = begin + (b_rows ? y : x);
    a_tile[a_rows ? y : x][a_rows ? x : y] =
        a_at < sizes.m && a_term < sizes.k ? Load(a + a_at * sizes.a_row + a_term * sizes.a_term) : 0.0F;
    b_tile[b_rows ? y : x][b_rows ? x : y] =
        b_at < sizes.n && b_term < sizes.k ? Load(b + b_at * sizes.b_row + b_term * sizes.b_term) : 0.0F;
    __syncthreads();
    for (int term = 0; term < kTile; ++term) sum += a_tile[term][x] * b_tile[term][y];
    __syncthreads();
  }
  const int64_t row = row_begin + x;
  const int64_t column = column_begin + y;
  if (row >= sizes.m || column >= sizes.n) return;
  const int64_t at = column * sizes.ldd + row;
  if (bias != nullptr) sum += Load(bias + row);
  if (addend != nullptr) sum += Load(addend + at);
  Store(d + at, sum);
}

}  // namespace

template <typename In, typename Out>
cudaError_t PlainProduct(const PlainProductSizes& sizes, const In* a, const In* b, const Out* bias, const Out* addend,
                         Out* d, cudaStream_t stream) {
  const int64_t tiles_m = BlocksFor(sizes.m, kTile);
  return Launch(PlainProductKernel<In, Out>, dim3(tiles_m * BlocksFor(sizes.n, kTile)), dim3(kTile, kTile), 0, stream,
                sizes, tiles_m, a, b, bias, addend, d);
}

template cudaError_t PlainProduct(const PlainProductSizes&, const float*, const float*, const float*, const float*,
                                  float*, cudaStream_t);
template cudaError_t PlainProduct(const PlainProductSizes&, const Bf16*, const Bf16*, const float*, const float*,
                                  float*, cudaStream_t);
template cudaError_t PlainProduct(const PlainProductSizes&, const Bf16*, const Bf16*, const Bf16*, const Bf16*, Bf16*,
                                  cudaStream_t);

}  // namespace penstock::cuda
