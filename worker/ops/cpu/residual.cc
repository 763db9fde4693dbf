#include "worker/ops/cpu/residual.h"

#include "absl/status/status.h"
#include "worker/ops/cpu/parallel.h"
#include "worker/ops/cpu/vector.h"

namespace penstock::cpu {
namespace {

class CpuResidualAdd : public ResidualAdd {
 public:
  CpuResidualAdd(int64_t elements, int threads) : elements_(elements), threads_(threads) {}

  absl::Status Forward(const OpContext&, const void* a_data, const void* b_data, void* y_data) const override {
    const float* a = static_cast<const float*>(a_data);
    const float* b = static_cast<const float*>(b_data);
    float* y = static_cast<float*>(y_data);
    ParallelFor(threads_, elements_, kParallelElementsMin, [&](int64_t begin, int64_t end) {
      ForLanes(begin, end, [&](int64_t i, int64_t count) {
        StoreUpTo(y + i, LoadUpTo(a + i, count) + LoadUpTo(b + i, count), count);
      });
    });
    return absl::OkStatus();
  }

 private:
  const int64_t elements_;
  const int threads_;
};

}  // namespace

std::unique_ptr<ResidualAdd> CreateResidualAdd(int64_t elements, int threads) {
  return std::make_unique<CpuResidualAdd>(elements, threads);
}

}  // namespace penstock::cpu
