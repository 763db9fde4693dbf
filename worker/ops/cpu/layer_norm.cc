#include "worker/ops/cpu/layer_norm.h"

#include "absl/status/status.h"
#include "worker/ops/cpu/kernels.h"
#include "worker/ops/cpu/parallel.h"

namespace penstock::cpu {
namespace {

// Threads share the columns in runs of this many: whole cache lines.
constexpr int64_t kColumnUnit = 64;

template <typename T>
class CpuLayerNorm : public LayerNorm {
 public:
  CpuLayerNorm(const LayerNormShape& shape, int threads) : shape_(shape), threads_(threads) {}

  absl::Status Forward(const OpContext&, const void* x, const void* gamma, const void* beta, void* y, float* mean,
                       float* reciprocal_std) const override {
    ForEachRow(
        [&](int64_t row) { Normalize(Row(x, row), gamma, beta, Row(y, row), mean + row, reciprocal_std + row); });
    return absl::OkStatus();
  }

  absl::Status ForwardOfSum(const OpContext&, const void* a, const void* b, void* sum, const void* gamma,
                            const void* beta, void* y, float* mean, float* reciprocal_std) const override {
    // A row at a time, so that the norm finds the sum in the cache.
    ForEachRow([&](int64_t row) {
      kernels_.add(Row(a, row), Row(b, row), Row(sum, row), shape_.width);
      Normalize(Row(sum, row), gamma, beta, Row(y, row), mean + row, reciprocal_std + row);
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OpContext&, const void* x, const void* gamma, const float* mean,
                        const float* reciprocal_std, const void* dy, void* dx, float* dgamma, float* dbeta,
                        GradientMode mode) const override {
    if (mode == GradientMode::kWrite) {
      std::fill_n(dgamma, shape_.width, 0.0F);
      std::fill_n(dbeta, shape_.width, 0.0F);
    }
    ForEachRow([&](int64_t row) {
      kernels_.layer_norm_backward(Row(x, row), static_cast<const T*>(gamma), mean[row], reciprocal_std[row],
                                   Row(dy, row), shape_.width, Row(dx, row));
    });
    ParallelFor(threads_, shape_.width, kColumnUnit, [&](int64_t begin, int64_t end) {
      kernels_.layer_norm_columns(static_cast<const T*>(x), static_cast<const T*>(dy), mean, reciprocal_std,
                                  shape_.rows, shape_.width, begin, end, dgamma, dbeta);
    });
    return absl::OkStatus();
  }

 private:
  const T* Row(const void* data, int64_t row) const { return static_cast<const T*>(data) + row * shape_.width; }
  T* Row(void* data, int64_t row) const { return static_cast<T*>(data) + row * shape_.width; }

  void Normalize(const T* x, const void* gamma, const void* beta, T* y, float* mean, float* reciprocal_std) const {
    kernels_.layer_norm_forward(x, static_cast<const T*>(gamma), static_cast<const T*>(beta), shape_.width,
                                shape_.epsilon, y, mean, reciprocal_std);
  }

  template <typename Body>
  void ForEachRow(const Body& body) const {
    ParallelFor(threads_, shape_.rows, 1 + kParallelElementsMin / 4 / shape_.width, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) body(row);
    });
  }

  const Kernels<T>& kernels_ = KernelsFor<T>();
  const LayerNormShape shape_;
  const int threads_;
};

}  // namespace

std::unique_ptr<LayerNorm> CreateLayerNorm(const LayerNormShape& shape, int threads) {
  if (shape.type == DataType::kBfloat16) return std::make_unique<CpuLayerNorm<Bfloat16>>(shape, threads);
  return std::make_unique<CpuLayerNorm<float>>(shape, threads);
}

}  // namespace penstock::cpu
