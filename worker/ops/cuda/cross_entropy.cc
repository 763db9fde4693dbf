#include "worker/ops/cuda/kernels/cross_entropy.h"

#include "core/base/status_macros.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/operations.h"
#include "worker/ops/cuda/row_losses.h"

namespace penstock::cuda {
namespace {

class CudaCrossEntropy : public CrossEntropy {
 public:
  explicit CudaCrossEntropy(const CrossEntropyShape& shape) : shape_(shape) {}

  int64_t workspace_bytes() const override { return RowLosses::bytes(shape_.rows); }

  absl::StatusOr<LossSum> Forward(const OpContext& context, const float* logits,
                                  const int32_t* targets) const override {
    // Without the gradient the kernel only reads them.
    return Run(context, const_cast<float*>(logits), targets, /*gradient=*/false);
  }

  absl::StatusOr<LossSum> ForwardBackward(const OpContext& context, float* logits,
                                          const int32_t* targets) const override {
    return Run(context, logits, targets, /*gradient=*/true);
  }

 private:
  absl::StatusOr<LossSum> Run(const OpContext& context, float* logits, const int32_t* targets, bool gradient) const {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    const RowLosses rows(context, context.workspace);
    PENSTOCK_RETURN_IF_ERROR(rows.CheckTargets(targets, shape_.rows, shape_.vocab_size));
    PENSTOCK_RETURN_IF_ERROR(ToStatus(SoftmaxCrossEntropy(logits, targets, shape_.rows, shape_.vocab_size, gradient,
                                                          rows.losses(), rows.total(), StreamOf(context)),
                                      "cross-entropy"));
    return rows.Read();
  }

  const CrossEntropyShape shape_;
};

class CudaSplitCrossEntropy : public SplitCrossEntropy {
 public:
  explicit CudaSplitCrossEntropy(const SplitCrossEntropyShape& shape)
      : shape_(shape), sizes_{shape.rows, shape.vocab_begin, shape.vocab_end, shape.ranks} {}

  int64_t workspace_bytes() const override { return RowLosses::bytes(shape_.rows); }

  absl::Status Reduce(const OpContext& context, const float* logits, const int32_t* targets,
                      RowReduction* reductions) const override {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    PENSTOCK_RETURN_IF_ERROR(
        RowLosses(context, context.workspace).CheckTargets(targets, shape_.rows, shape_.vocab_size));
    return ToStatus(ReduceRows(sizes_, logits, shape_.vocab_end - shape_.vocab_begin, targets, Parts(reductions),
                               StreamOf(context)),
                    "cross-entropy's rows");
  }

  absl::StatusOr<LossSum> Finish(const OpContext& context, const RowReduction* all, const int32_t* targets,
                                 float* logits) const override {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    const RowLosses rows(context, context.workspace);
    PENSTOCK_RETURN_IF_ERROR(ToStatus(
        FinishRows(sizes_, Parts(all), targets, logits, rows.losses(), rows.total(), /*add=*/false, StreamOf(context)),
        "cross-entropy over tensor ranks"));
    return rows.Read();
  }

 private:
  const SplitCrossEntropyShape shape_;
  const SplitSizes sizes_;
};

}  // namespace

std::unique_ptr<CrossEntropy> CreateCrossEntropy(const CrossEntropyShape& shape) {
  return std::make_unique<CudaCrossEntropy>(shape);
}

std::unique_ptr<SplitCrossEntropy> CreateSplitCrossEntropy(const SplitCrossEntropyShape& shape) {
  return std::make_unique<CudaSplitCrossEntropy>(shape);
}

}  // namespace penstock::cuda
