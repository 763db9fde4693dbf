#include "worker/ops/cpu/layer_norm.h"

#include <cmath>

#include "absl/status/status.h"
#include "worker/ops/cpu/parallel.h"
#include "worker/ops/cpu/vector.h"

namespace penstock::cpu {
namespace {

// Columns whose sums over all rows one thread makes at a time: their accumulators stay in the first-level cache.
constexpr int64_t kColumnBlock = 64;

void ForwardRow(const float* x, const float* gamma, const float* beta, int64_t width, float epsilon, float* y,
                float* mean_out, float* reciprocal_std_out) {
  const float scale = 1.0F / static_cast<float>(width);
  Floats sum{};
  ForLanes(0, width, [&](int64_t i, int64_t count) { sum += LoadUpTo(x + i, count); });
  const float mean = Sum(sum) * scale;

  Floats squares{};
  ForLanes(0, width, [&](int64_t i, int64_t count) {
    const Floats centered = LoadUpTo(x + i, count, mean) - mean;  // lanes beyond the row become 0
    squares += centered * centered;
  });
  const float reciprocal_std = 1.0F / std::sqrt(Sum(squares) * scale + epsilon);

  ForLanes(0, width, [&](int64_t i, int64_t count) {
    const Floats normal = (LoadUpTo(x + i, count) - mean) * reciprocal_std;
    StoreUpTo(y + i, normal * LoadUpTo(gamma + i, count) + LoadUpTo(beta + i, count), count);
  });
  *mean_out = mean;
  *reciprocal_std_out = reciprocal_std;
}

// With n the normalised x and g = dy * gamma: dx = (g - mean(g) - n mean(g n)) / std.
void BackwardRow(const float* x, const float* gamma, float mean, float reciprocal_std, const float* dy, int64_t width,
                 float* dx) {
  const float scale = 1.0F / static_cast<float>(width);
  Floats sum{};
  Floats product{};
  ForLanes(0, width, [&](int64_t i, int64_t count) {
    const Floats g = LoadUpTo(dy + i, count) * LoadUpTo(gamma + i, count);
    sum += g;
    product += g * ((LoadUpTo(x + i, count) - mean) * reciprocal_std);
  });
  const float g_mean = Sum(sum) * scale;
  const float gn_mean = Sum(product) * scale;
  ForLanes(0, width, [&](int64_t i, int64_t count) {
    const Floats g = LoadUpTo(dy + i, count) * LoadUpTo(gamma + i, count);
    const Floats n = (LoadUpTo(x + i, count) - mean) * reciprocal_std;
    StoreUpTo(dx + i, LoadUpTo(dx + i, count) + (g - g_mean - n * gn_mean) * reciprocal_std, count);
  });
}

class CpuLayerNorm : public LayerNorm {
 public:
  CpuLayerNorm(const LayerNormShape& shape, int threads) : shape_(shape), threads_(threads) {}

  absl::Status Forward(const OpContext&, const void* x_data, const void* gamma_data, const void* beta_data,
                       void* y_data, float* mean, float* reciprocal_std) const override {
    const float* x = static_cast<const float*>(x_data);
    const float* gamma = static_cast<const float*>(gamma_data);
    const float* beta = static_cast<const float*>(beta_data);
    float* y = static_cast<float*>(y_data);
    ParallelFor(threads_, shape_.rows, RowUnit(), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        ForwardRow(x + row * shape_.width, gamma, beta, shape_.width, shape_.epsilon, y + row * shape_.width,
                   mean + row, reciprocal_std + row);
      }
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OpContext&, const void* x_data, const void* gamma_data, const float* mean,
                        const float* reciprocal_std, const void* dy_data, void* dx_data, float* dgamma,
                        float* dbeta) const override {
    const float* x = static_cast<const float*>(x_data);
    const float* gamma = static_cast<const float*>(gamma_data);
    const float* dy = static_cast<const float*>(dy_data);
    float* dx = static_cast<float*>(dx_data);
    ParallelFor(threads_, shape_.rows, RowUnit(), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = row * shape_.width;
        BackwardRow(x + at, gamma, mean[row], reciprocal_std[row], dy + at, shape_.width, dx + at);
      }
    });
    ParallelFor(threads_, shape_.width, kColumnBlock, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; block += kColumnBlock) {
        ColumnSums(x, mean, reciprocal_std, dy, block, std::min(block + kColumnBlock, end), dgamma, dbeta);
      }
    });
    return absl::OkStatus();
  }

 private:
  int64_t RowUnit() const { return 1 + kParallelElementsMin / 4 / shape_.width; }

  // Adds the sums over all rows of columns [begin, end) to dgamma and dbeta.
  void ColumnSums(const float* x, const float* mean, const float* reciprocal_std, const float* dy, int64_t begin,
                  int64_t end, float* dgamma, float* dbeta) const {
    float gamma_sum[kColumnBlock] = {};
    float beta_sum[kColumnBlock] = {};
    for (int64_t row = 0; row < shape_.rows; ++row) {
      const float* x_row = x + row * shape_.width;
      const float* dy_row = dy + row * shape_.width;
      ForLanes(begin, end, [&](int64_t i, int64_t count) {
        const Floats g = LoadUpTo(dy_row + i, count);
        const Floats n = (LoadUpTo(x_row + i, count) - mean[row]) * reciprocal_std[row];
        StoreUpTo(gamma_sum + (i - begin), LoadUpTo(gamma_sum + (i - begin), count) + g * n, count);
        StoreUpTo(beta_sum + (i - begin), LoadUpTo(beta_sum + (i - begin), count) + g, count);
      });
    }
    for (int64_t i = begin; i < end; ++i) {
      dgamma[i] += gamma_sum[i - begin];
      dbeta[i] += beta_sum[i - begin];
    }
  }

  const LayerNormShape shape_;
  const int threads_;
};

}  // namespace

std::unique_ptr<LayerNorm> CreateLayerNorm(const LayerNormShape& shape, int threads) {
  return std::make_unique<CpuLayerNorm>(shape, threads);
}

}  // namespace penstock::cpu
