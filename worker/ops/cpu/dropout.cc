#include "worker/ops/cpu/dropout.h"

#include "worker/ops/cpu/kernels.h"
#include "worker/ops/cpu/parallel.h"

namespace penstock::cpu {
namespace {

template <typename T>
class CpuDropout : public Dropout {
 public:
  CpuDropout(const DropoutShape& shape, int threads) : shape_(shape), threads_(threads) {}

  absl::Status Apply(const OpContext&, uint64_t first_sample, uint32_t site, const void* x, void* y) const override {
    for (int64_t sample = 0; sample < shape_.samples; ++sample) {
      ParallelFor(threads_, shape_.elements, kUnit, [&](int64_t begin, int64_t end) {
        const int64_t at = sample * shape_.elements + begin;
        kernels_.dropout(shape_.rule, first_sample + static_cast<uint64_t>(sample), site,
                         static_cast<uint32_t>(begin / kDropoutBlock), static_cast<const T*>(x) + at,
                         static_cast<T*>(y) + at, end - begin);
      });
    }
    return absl::OkStatus();
  }

 private:
  // Ten rounds for eight elements are more work than a sum.
  static constexpr int64_t kUnit = kParallelElementsMin / 4;
  static_assert(kUnit % kDropoutBlock == 0);

  const Kernels<T>& kernels_ = KernelsFor<T>();
  const DropoutShape shape_;
  const int threads_;
};

}  // namespace

std::unique_ptr<Dropout> CreateDropout(const DropoutShape& shape, int threads) {
  if (shape.type == DataType::kBfloat16) return std::make_unique<CpuDropout<Bfloat16>>(shape, threads);
  return std::make_unique<CpuDropout<float>>(shape, threads);
}

}  // namespace penstock::cpu
