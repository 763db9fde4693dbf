// MatmulSpec's meaning in plain loops, on the emulated device's memory.
#ifndef PENSTOCK_WORKER_OPS_CUDA_TESTING_PLAIN_MATMUL_H_
#define PENSTOCK_WORKER_OPS_CUDA_TESTING_PLAIN_MATMUL_H_

#include <cuda_runtime_api.h>

#include <cmath>
#include <memory>

#include "core/base/bfloat16.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/matmul.h"
#include "worker/ops/cuda/testing/emulator/streams.h"

namespace penstock::cuda {

class PlainMatmul : public Matmul {
 public:
  explicit PlainMatmul(const MatmulSpec& spec) : spec_(spec) {}
  int64_t workspace_bytes() const override { return 0; }

  absl::Status Run(const OpContext& context, const void* a, const void* b, const void* bias, void* d, bool accumulate,
                   void* aux) const override {
    return ToStatus(
        emulator::Enqueue(static_cast<cudaStream_t>(context.stream), emulator::Touches::kDevice,
                          [=, spec = spec_] { PlainMatmul(spec).Multiply(a, b, bias, d, accumulate, aux); }),
        "a product");
  }

 private:
  void Multiply(const void* a, const void* b, const void* bias, void* d, bool accumulate, void* aux) const {
    for (int64_t column = 0; column < spec_.n; ++column) {
      for (int64_t row = 0; row < spec_.m; ++row) {
        float sum = 0;
        for (int64_t i = 0; i < spec_.k; ++i) {
          const float left = Get(a, spec_.input, spec_.transpose_a ? row * spec_.lda + i : i * spec_.lda + row);
          const float right = Get(b, spec_.input, spec_.transpose_b ? i * spec_.ldb + column : column * spec_.ldb + i);
          sum += left * right;
        }
        const int64_t at = column * spec_.ldd + row;
        if (spec_.has_bias) sum += Get(bias, spec_.output, row);
        if (accumulate) sum += Get(d, spec_.output, at);
        if (spec_.epilogue == Epilogue::kGelu) {
          Set(aux, spec_.output, at, sum);
          sum = static_cast<float>(Gelu(static_cast<double>(sum)));
        } else if (spec_.epilogue == Epilogue::kGeluGradient) {
          sum *= static_cast<float>(GeluSlope(static_cast<double>(Get(aux, spec_.output, at))));
        }
        Set(d, spec_.output, at, sum);
      }
    }
  }

  // The tanh form, as cuBLASLt's.
  static double Tanh(double x) { return std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)); }
  static double Gelu(double x) { return 0.5 * x * (1 + Tanh(x)); }
  static double GeluSlope(double x) {
    const double t = Tanh(x);
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
  }
  static float Get(const void* values, DataType type, int64_t at) {
    return type == DataType::kBfloat16 ? ToFloat(static_cast<const Bfloat16*>(values)[at])
                                       : static_cast<const float*>(values)[at];
  }
  static void Set(void* values, DataType type, int64_t at, float value) {
    if (type == DataType::kBfloat16) {
      static_cast<Bfloat16*>(values)[at] = ToBfloat16(value);
    } else {
      static_cast<float*>(values)[at] = value;
    }
  }

  const MatmulSpec spec_;
};

class PlainMatmuls : public MatmulFactory {
 public:
  absl::StatusOr<std::unique_ptr<Matmul>> Create(const MatmulSpec& spec) override {
    // As the library's: rows of aux at multiples of 16 bytes.
    if (spec.epilogue != Epilogue::kNone && spec.ldd % 8 != 0) return absl::UnimplementedError("an odd epilogue");
    return std::unique_ptr<Matmul>(std::make_unique<PlainMatmul>(spec));
  }
};

}  // namespace penstock::cuda

#endif  // PENSTOCK_WORKER_OPS_CUDA_TESTING_PLAIN_MATMUL_H_
