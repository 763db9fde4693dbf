#include "worker/ops/cpu/gelu.h"

#include "absl/status/status.h"
#include "worker/ops/cpu/parallel.h"
#include "worker/ops/cpu/vector.h"

namespace penstock::cpu {
namespace {

// (1 + tanh(u)) / 2 is the logistic function of 2u, so y = x * logistic(2u) with 2u = kTwoRoot (x + kCubic x^3).
constexpr float kTwoRoot = 1.5957691216057308F;  // 2 sqrt(2 / pi)
constexpr float kCubic = 0.044715F;

PENSTOCK_INLINE Floats Logistic(Floats z) { return 1.0F / (1.0F + Exp(-z)); }

class CpuGelu : public Gelu {
 public:
  CpuGelu(int64_t elements, int threads) : elements_(elements), threads_(threads) {}

  absl::Status Forward(const OpContext&, const void* x_data, void* y_data) const override {
    const float* x = static_cast<const float*>(x_data);
    float* y = static_cast<float*>(y_data);
    ParallelFor(threads_, elements_, kParallelElementsMin, [&](int64_t begin, int64_t end) {
      ForLanes(begin, end, [&](int64_t i, int64_t count) {
        const Floats v = LoadUpTo(x + i, count);
        StoreUpTo(y + i, v * Logistic(kTwoRoot * (v + kCubic * (v * v * v))), count);
      });
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OpContext&, const void* x_data, const void* dy_data, void* dx_data) const override {
    const float* x = static_cast<const float*>(x_data);
    const float* dy = static_cast<const float*>(dy_data);
    float* dx = static_cast<float*>(dx_data);
    ParallelFor(threads_, elements_, kParallelElementsMin, [&](int64_t begin, int64_t end) {
      ForLanes(begin, end, [&](int64_t i, int64_t count) {
        const Floats v = LoadUpTo(x + i, count);
        const Floats s = Logistic(kTwoRoot * (v + kCubic * (v * v * v)));
        const Floats slope = s + v * s * (1.0F - s) * (kTwoRoot * (1.0F + (3.0F * kCubic) * (v * v)));
        StoreUpTo(dx + i, LoadUpTo(dy + i, count) * slope, count);
      });
    });
    return absl::OkStatus();
  }

 private:
  const int64_t elements_;
  const int threads_;
};

}  // namespace

std::unique_ptr<Gelu> CreateGelu(int64_t elements, int threads) { return std::make_unique<CpuGelu>(elements, threads); }

}  // namespace penstock::cpu
