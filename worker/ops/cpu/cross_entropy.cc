#include "worker/ops/cpu/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/ops/cpu/parallel.h"
#include "worker/ops/cpu/softmax_row.h"

namespace penstock::cpu {
namespace {

double RowLoss(const float* logits, const RowSoftmax& row, int32_t target) {
  return std::log(static_cast<double>(row.sum)) -
         (static_cast<double>(logits[target]) - static_cast<double>(row.maximum));
}

class CpuCrossEntropy : public CrossEntropy {
 public:
  CpuCrossEntropy(const CrossEntropyShape& shape, int threads) : shape_(shape), threads_(threads) {}

  int64_t workspace_bytes() const override { return shape_.rows * static_cast<int64_t>(sizeof(double)); }

  absl::StatusOr<LossSum> Forward(const OpContext& context, const float* logits,
                                  const int32_t* targets) const override {
    return Run(context, targets, [this, logits](int64_t row, int32_t target) {
      const float* at = logits + row * shape_.vocab_size;
      return target == kIgnoredTarget ? 0.0 : RowLoss(at, ReduceRow(at, shape_.vocab_size), target);
    });
  }

  absl::StatusOr<LossSum> ForwardBackward(const OpContext& context, float* logits,
                                          const int32_t* targets) const override {
    return Run(context, targets, [this, logits](int64_t row, int32_t target) {
      float* at = logits + row * shape_.vocab_size;
      if (target == kIgnoredTarget) {
        std::fill_n(at, shape_.vocab_size, 0.0F);
        return 0.0;
      }
      const RowSoftmax softmax = ReduceRow(at, shape_.vocab_size);
      const double loss = RowLoss(at, softmax, target);
      ReplaceBySoftmax(at, shape_.vocab_size, softmax);
      at[target] -= 1.0F;
      return loss;
    });
  }

 private:
  template <typename Row>
  absl::StatusOr<LossSum> Run(const OpContext& context, const int32_t* targets, const Row& run_row) const {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    double* losses = reinterpret_cast<double*>(context.workspace);
    LossSum sum;
    for (int64_t row = 0; row < shape_.rows; ++row) {
      if (targets[row] == kIgnoredTarget) continue;
      if (targets[row] < 0 || targets[row] >= shape_.vocab_size) {
        return absl::InvalidArgumentError(absl::StrCat("target ", targets[row], " of row ", row,
                                                       " is outside the vocabulary: expected 0 to ",
                                                       shape_.vocab_size - 1, ", or ", kIgnoredTarget, " for none"));
      }
      ++sum.target_count;
    }
    ParallelFor(threads_, shape_.rows, 1 + kParallelElementsMin / 4 / shape_.vocab_size,
                [&](int64_t begin, int64_t end) {
                  for (int64_t row = begin; row < end; ++row) losses[row] = run_row(row, targets[row]);
                });
    for (int64_t row = 0; row < shape_.rows; ++row) sum.loss += losses[row];
    return sum;
  }

  const CrossEntropyShape shape_;
  const int threads_;
};

}  // namespace

std::unique_ptr<CrossEntropy> CreateCrossEntropy(const CrossEntropyShape& shape, int threads) {
  return std::make_unique<CpuCrossEntropy>(shape, threads);
}

}  // namespace penstock::cpu
