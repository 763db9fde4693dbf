#include "worker/ops/cuda/testing/cublaslt/emulated_product.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/bfloat16.h"
#include "worker/cuda/testing/emulator/memory.h"

namespace penstock::cuda::emulator {
namespace {

// Sums that go on side by side, as a tensor core's and its warp's do.
constexpr uint64_t kLanes = 16;
constexpr uint64_t kTileTerms = 64;

float Get(const void* data, cudaDataType_t type, uint64_t at) {
  return type == CUDA_R_16BF ? ToFloat(static_cast<const Bfloat16*>(data)[at]) : static_cast<const float*>(data)[at];
}

void Set(void* data, cudaDataType_t type, uint64_t at, float value) {
  if (type == CUDA_R_16BF) {
    static_cast<Bfloat16*>(data)[at] = ToBfloat16(value);
  } else {
    static_cast<float*>(data)[at] = value;
  }
}

// `data` with what is multiplied and added side by side: (outer, k).
std::vector<float> Unpack(const void* data, const Matrix& matrix, bool k_is_columns, uint64_t outer, uint64_t k) {
  std::vector<float> values(outer * k);
  const auto ld = static_cast<uint64_t>(matrix.ld);
  for (uint64_t i = 0; i < outer; ++i) {
    for (uint64_t j = 0; j < k; ++j) values[i * k + j] = Get(data, matrix.type, k_is_columns ? j * ld + i : i * ld + j);
  }
  return values;
}

float Dot(const float* a, const float* b, uint64_t k) {
  float lanes[kLanes] = {};
  uint64_t at = 0;
  for (; at + kLanes <= k; at += kLanes) {
    for (uint64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += a[at + lane] * b[at + lane];
  }
  for (; at < k; ++at) lanes[at % kLanes] += a[at] * b[at];
  for (uint64_t half = kLanes / 2; half > 0; half /= 2) {
    for (uint64_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

// The tanh form.
constexpr float kRootOfTwoByPi = 0.79788456f;
constexpr float kCubic = 0.044715f;

float Gelu(float x) { return 0.5f * x * (1 + std::tanh(kRootOfTwoByPi * (x + kCubic * x * x * x))); }

float GeluSlope(float x) {
  const float t = std::tanh(kRootOfTwoByPi * (x + kCubic * x * x * x));
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * kRootOfTwoByPi * (1 + 3 * kCubic * x * x);
}

// The epilogue is applied to fp32, and what is stored is rounded once: D, and what GELU's gradient will be taken at.
void Finish(const Product& product, uint64_t row, uint64_t column, float sum) {
  const auto at = [&](int64_t ld) { return column * static_cast<uint64_t>(ld) + row; };
  float value = product.alpha * sum;
  if (product.beta != 0) value += product.beta * Get(product.c_data, product.c.type, at(product.c.ld));
  if ((product.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0) value += Get(product.bias, product.d.type, row);
  if (product.epilogue == CUBLASLT_EPILOGUE_GELU_AUX || product.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) {
    Set(product.aux, product.d.type, at(product.aux_ld), value);
    value = Gelu(value);
  } else if (product.epilogue == CUBLASLT_EPILOGUE_DGELU) {
    value *= GeluSlope(Get(product.aux, product.d.type, at(product.aux_ld)));
  }
  Set(product.d_data, product.d.type, at(product.d.ld), value);
}

}  // namespace

int64_t BytesOf(cudaDataType_t type) { return type == CUDA_R_16BF ? 2 : 4; }

void RunProduct(Product product) {
  for (const void** const data : {&product.a_data, &product.b_data, &product.c_data, &product.bias})
    *data = Open(*data);
  product.d_data = Open(product.d_data);
  product.aux = Open(product.aux);
  product.workspace = reinterpret_cast<float*>(Open(product.workspace));
  const uint64_t m = product.m;
  const uint64_t n = product.n;
  const uint64_t k = product.k;
  const std::vector<float> a = Unpack(product.a_data, product.a, !product.transpose_a, m, k);
  const std::vector<float> b = Unpack(product.b_data, product.b, product.transpose_b, n, k);
  // Some versions drop the terms behind the last whole tile where k is shared out.
  const uint64_t terms = product.splits == 1 ? k : k / kTileTerms * kTileTerms;
  const uint64_t part = (terms + product.splits - 1) / product.splits;
  for (uint64_t split = 0; split < product.splits; ++split) {
    const uint64_t begin = std::min(terms, split * part);
    const uint64_t size = std::min(terms, begin + part) - begin;
    for (uint64_t column = 0; column < n; ++column) {
      for (uint64_t row = 0; row < m; ++row) {
        const float sum = Dot(&a[row * k + begin], &b[column * k + begin], size);
        if (product.splits == 1) {
          Finish(product, row, column, sum);
        } else {
          product.workspace[(split * n + column) * m + row] = sum;
        }
      }
    }
  }
  if (product.splits == 1) return;
  for (uint64_t column = 0; column < n; ++column) {
    for (uint64_t row = 0; row < m; ++row) {
      float sum = 0;
      for (uint64_t split = 0; split < product.splits; ++split)
        sum += product.workspace[(split * n + column) * m + row];
      Finish(product, row, column, sum);
    }
  }
}

}  // namespace penstock::cuda::emulator
