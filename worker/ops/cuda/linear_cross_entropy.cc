// The output head with its loss: the logits as a whole, since a device has no cache that slices of them would stay in,
// of the operation's type, and their gradient in their place. Row-major as column-major: see linear.cc.
#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "core/model/head_rows.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/kernels/cross_entropy.h"
#include "worker/ops/cuda/operations.h"

namespace penstock::cuda {
namespace {

constexpr int64_t kAlignment = 256;

int64_t Aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

struct Products {
  std::unique_ptr<Matmul> project;  // logits = x W'
  std::unique_ptr<Matmul> weight;   // dW = dlogits' x
  std::unique_ptr<Matmul> input;    // dx = dlogits W
};

class CudaLinearCrossEntropy : public LinearCrossEntropy {
 public:
  CudaLinearCrossEntropy(const LinearCrossEntropyShape& shape, Products products)
      : shape_(shape),
        sizes_{shape.rows, shape.vocab_begin, shape.vocab_end, shape.ranks},
        pitch_(GpuLogitsPitch(shape.columns())),
        products_(std::move(products)),
        products_bytes_(Aligned(std::max({products_.project->workspace_bytes(), products_.weight->workspace_bytes(),
                                          products_.input->workspace_bytes()}))) {}

  int64_t logits_bytes() const override { return shape_.rows * pitch_ * BytesOf(shape_.type); }
  int64_t workspace_bytes() const override {
    return products_bytes_ + shape_.rows * static_cast<int64_t>(sizeof(double));
  }

  absl::Status Forward(const OpContext& context, const void* x, const void* weight, const int32_t* targets,
                       void* logits, RowReduction* reductions, HeadPass pass) const override {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    PENSTOCK_RETURN_IF_ERROR(products_.project->Run(context, weight, x, nullptr, /*addend=*/nullptr, logits));
    return ByType(shape_.type, [&](auto type) {
      return ToStatus(ReduceRows(sizes_, As(logits, type), pitch_, targets,
                                 /*gradient=*/pass == HeadPass::kTraining && Whole(), reductions, StreamOf(context)),
                      "rows of logits");
    });
  }

  absl::Status Loss(const OpContext& context, const RowReduction* all, const int32_t* targets, LossSum* total,
                    GradientMode mode) const override {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    auto* const losses = reinterpret_cast<double*>(context.workspace + products_bytes_);
    return ToStatus(LossOfRows(sizes_, all, targets, losses, total, mode == GradientMode::kAdd, StreamOf(context)),
                    "the loss");
  }

  absl::Status Backward(const OpContext& context, const void* x, const void* weight, const RowReduction* all,
                        const int32_t* targets, void* logits, void* dx, float* dweight,
                        GradientMode mode) const override {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    if (!Whole()) {
      PENSTOCK_RETURN_IF_ERROR(ByType(shape_.type, [&](auto type) {
        return ToStatus(GradientOfRows(sizes_, all, targets, As(logits, type), pitch_, StreamOf(context)),
                        "the gradient of the logits");
      }));
    }
    PENSTOCK_RETURN_IF_ERROR(
        products_.weight->Run(context, x, logits, nullptr, mode == GradientMode::kAdd ? dweight : nullptr, dweight));
    return products_.input->Run(context, weight, logits, nullptr, /*addend=*/nullptr, dx);
  }

 private:
  // Where no other rank has a part in the softmax, Forward knows the gradient.
  bool Whole() const { return shape_.ranks == 1; }

  const LinearCrossEntropyShape shape_;
  const SplitSizes sizes_;
  const int64_t pitch_;  // of the logits, in elements
  const Products products_;
  const int64_t products_bytes_;  // in the workspace, before a loss for each row
};

}  // namespace

absl::StatusOr<std::unique_ptr<LinearCrossEntropy>> CreateLinearCrossEntropy(const LinearCrossEntropyShape& shape,
                                                                             MatmulFactory* matmuls) {
  const int64_t pitch = GpuLogitsPitch(shape.columns());
  Products products;
  PENSTOCK_ASSIGN_OR_RETURN(products.project, matmuls->Create({.m = shape.columns(),
                                                               .n = shape.rows,
                                                               .k = shape.in,
                                                               .transpose_a = true,
                                                               .transpose_b = false,
                                                               .lda = shape.in,
                                                               .ldb = shape.in,
                                                               .ldd = pitch,
                                                               .input = shape.type,
                                                               .output = shape.type,
                                                               .has_bias = false}));
  PENSTOCK_ASSIGN_OR_RETURN(products.weight, matmuls->Create({.m = shape.in,
                                                              .n = shape.columns(),
                                                              .k = shape.rows,
                                                              .transpose_a = false,
                                                              .transpose_b = true,
                                                              .lda = shape.in,
                                                              .ldb = pitch,
                                                              .ldd = shape.in,
                                                              .input = shape.type,
                                                              .output = DataType::kFloat32,
                                                              .has_bias = false}));
  PENSTOCK_ASSIGN_OR_RETURN(products.input, matmuls->Create({.m = shape.in,
                                                             .n = shape.rows,
                                                             .k = shape.columns(),
                                                             .transpose_a = false,
                                                             .transpose_b = false,
                                                             .lda = shape.in,
                                                             .ldb = pitch,
                                                             .ldd = shape.in,
                                                             .input = shape.type,
                                                             .output = shape.type,
                                                             .has_bias = false}));
  return std::unique_ptr<LinearCrossEntropy>(std::make_unique<CudaLinearCrossEntropy>(shape, std::move(products)));
}

}  // namespace penstock::cuda
