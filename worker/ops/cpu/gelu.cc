#include "worker/ops/cpu/gelu.h"

#include "absl/status/status.h"
#include "worker/ops/cpu/kernels.h"
#include "worker/ops/cpu/parallel.h"

namespace penstock::cpu {
namespace {

template <typename T>
class CpuGelu : public Gelu {
 public:
  CpuGelu(int64_t elements, int threads) : elements_(elements), threads_(threads) {}

  absl::Status Forward(const OpContext&, const void* x, void* y) const override {
    ParallelFor(threads_, elements_, kParallelElementsMin, [&](int64_t begin, int64_t end) {
      kernels_.gelu_forward(static_cast<const T*>(x) + begin, static_cast<T*>(y) + begin, end - begin);
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OpContext&, const void* x, const void* dy, void* dx) const override {
    ParallelFor(threads_, elements_, kParallelElementsMin, [&](int64_t begin, int64_t end) {
      kernels_.gelu_backward(static_cast<const T*>(x) + begin, static_cast<const T*>(dy) + begin,
                             static_cast<T*>(dx) + begin, end - begin);
    });
    return absl::OkStatus();
  }

 private:
  const Kernels<T>& kernels_ = KernelsFor<T>();
  const int64_t elements_;
  const int threads_;
};

}  // namespace

std::unique_ptr<Gelu> CreateGelu(int64_t elements, DataType type, int threads) {
  if (type == DataType::kBfloat16) return std::make_unique<CpuGelu<Bfloat16>>(elements, threads);
  return std::make_unique<CpuGelu<float>>(elements, threads);
}

}  // namespace penstock::cpu
