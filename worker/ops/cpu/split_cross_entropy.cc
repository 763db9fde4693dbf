#include "worker/ops/cpu/split_cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "worker/ops/cpu/parallel.h"
#include "worker/ops/cpu/softmax_row.h"

namespace penstock::cpu {
namespace {

class CpuSplitCrossEntropy : public SplitCrossEntropy {
 public:
  CpuSplitCrossEntropy(const SplitCrossEntropyShape& shape, int threads) : shape_(shape), threads_(threads) {}

  absl::Status Reduce(const OpContext&, const float* logits, const int32_t* targets,
                      RowReduction* reductions) const override {
    for (int64_t row = 0; row < shape_.rows; ++row) {
      if (targets[row] == kIgnoredTarget || (targets[row] >= 0 && targets[row] < shape_.vocab_size)) continue;
      return absl::InvalidArgumentError(absl::StrCat("target ", targets[row], " of row ", row,
                                                     " is outside the vocabulary: expected 0 to ",
                                                     shape_.vocab_size - 1, ", or ", kIgnoredTarget, " for none"));
    }
    ForRows([&](int64_t row) {
      const float* at = logits + row * width();
      const RowSoftmax softmax = ReduceRow(at, width());
      const double target = Here(targets[row]) ? static_cast<double>(at[targets[row] - shape_.vocab_begin]) : 0.0;
      reductions[row] = {static_cast<double>(softmax.maximum), static_cast<double>(softmax.sum), target};
    });
    return absl::OkStatus();
  }

  absl::StatusOr<LossSum> Finish(const OpContext&, const RowReduction* all, const int32_t* targets,
                                 float* logits) const override {
    LossSum sum;
    for (int64_t row = 0; row < shape_.rows; ++row) {
      if (targets[row] == kIgnoredTarget) continue;
      double target = 0;
      for (int rank = 0; rank < shape_.ranks; ++rank) target += all[rank * shape_.rows + row].target_logit;
      const RowSoftmax softmax = Combine(all, row);
      sum.loss += std::log(static_cast<double>(softmax.sum)) - (target - static_cast<double>(softmax.maximum));
      ++sum.target_count;
    }
    if (logits == nullptr) return sum;
    ForRows([&](int64_t row) {
      float* at = logits + row * width();
      if (targets[row] == kIgnoredTarget) {
        std::fill_n(at, width(), 0.0F);
        return;
      }
      ReplaceBySoftmax(at, width(), Combine(all, row));
      if (Here(targets[row])) at[targets[row] - shape_.vocab_begin] -= 1.0F;
    });
    return sum;
  }

 private:
  int64_t width() const { return shape_.vocab_end - shape_.vocab_begin; }
  bool Here(int32_t target) const { return target >= shape_.vocab_begin && target < shape_.vocab_end; }

  RowSoftmax Combine(const RowReduction* all, int64_t row) const {
    double maximum = all[row].maximum;
    for (int rank = 1; rank < shape_.ranks; ++rank) maximum = std::max(maximum, all[rank * shape_.rows + row].maximum);
    double sum = 0;
    for (int rank = 0; rank < shape_.ranks; ++rank) {
      const RowReduction& part = all[rank * shape_.rows + row];
      sum += part.sum * std::exp(part.maximum - maximum);
    }
    return {static_cast<float>(maximum), static_cast<float>(sum)};
  }

  template <typename Row>
  void ForRows(const Row& run_row) const {
    ParallelFor(threads_, shape_.rows, 1 + kParallelElementsMin / 4 / width(), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) run_row(row);
    });
  }

  const SplitCrossEntropyShape shape_;
  const int threads_;
};

}  // namespace

std::unique_ptr<SplitCrossEntropy> CreateSplitCrossEntropy(const SplitCrossEntropyShape& shape, int threads) {
  return std::make_unique<CpuSplitCrossEntropy>(shape, threads);
}

}  // namespace penstock::cpu
