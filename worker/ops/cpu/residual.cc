#include "worker/ops/cpu/residual.h"

#include "absl/status/status.h"
#include "worker/ops/cpu/kernels.h"
#include "worker/ops/cpu/parallel.h"

namespace penstock::cpu {
namespace {

template <typename T>
class CpuResidualAdd : public ResidualAdd {
 public:
  CpuResidualAdd(int64_t elements, int threads) : elements_(elements), threads_(threads) {}

  absl::Status Forward(const OpContext&, const void* a, const void* b, void* y) const override {
    ParallelFor(threads_, elements_, kParallelElementsMin, [&](int64_t begin, int64_t end) {
      kernels_.add(static_cast<const T*>(a) + begin, static_cast<const T*>(b) + begin, static_cast<T*>(y) + begin,
                   end - begin);
    });
    return absl::OkStatus();
  }

 private:
  const Kernels<T>& kernels_ = KernelsFor<T>();
  const int64_t elements_;
  const int threads_;
};

}  // namespace

std::unique_ptr<ResidualAdd> CreateResidualAdd(int64_t elements, DataType type, int threads) {
  if (type == DataType::kBfloat16) return std::make_unique<CpuResidualAdd<Bfloat16>>(elements, threads);
  return std::make_unique<CpuResidualAdd<float>>(elements, threads);
}

}  // namespace penstock::cpu
