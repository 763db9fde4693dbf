// The output head with its loss: the logits as a whole, since a device has no cache that slices of them would stay in.
// Their gradient takes their place in fp32, and in bf16 has rows of its own, which begin at multiples of 16 bytes for
// the products' sake. Row-major as column-major: see linear.cc.
#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/operations.h"
#include "worker/ops/cuda/row_losses.h"

namespace penstock::cuda {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t kPitchUnit = 8;  // of bf16: 16 bytes

int64_t Aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

int64_t GradientPitch(const LinearCrossEntropyShape& shape) {
  if (shape.type == DataType::kFloat32) return shape.columns();
  return (shape.columns() + kPitchUnit - 1) / kPitchUnit * kPitchUnit;
}

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
        products_(std::move(products)),
        products_bytes_(Aligned(std::max({products_.project->workspace_bytes(), products_.weight->workspace_bytes(),
                                          products_.input->workspace_bytes()}))) {}

  int64_t workspace_bytes() const override {
    return GradientOffset() + (Wide() ? 0 : shape_.rows * GradientPitch(shape_) * static_cast<int64_t>(sizeof(Bf16)));
  }

  absl::Status Forward(const OpContext& context, const void* x, const void* weight, const int32_t* targets,
                       float* logits, RowReduction* reductions) const override {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    PENSTOCK_RETURN_IF_ERROR(products_.project->Run(context, weight, x, nullptr, logits, /*accumulate=*/false));
    return ToStatus(ReduceRows(sizes_, logits, targets, Parts(reductions), StreamOf(context)), "rows of logits");
  }

  absl::Status Loss(const OpContext& context, const RowReduction* all, const int32_t* targets, LossSum* total,
                    GradientMode mode) const override {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    return ToStatus(
        FinishRows(sizes_, Parts(all), targets, /*logits=*/nullptr, RowsOf(context).losses(),
                   reinterpret_cast<CrossEntropyTotal*>(total), mode == GradientMode::kAdd, StreamOf(context)),
        "the loss");
  }

  absl::Status Backward(const OpContext& context, const void* x, const void* weight, const RowReduction* all,
                        const int32_t* targets, float* logits, void* dx, float* dweight,
                        GradientMode mode) const override {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    void* const gradient = Wide() ? static_cast<void*>(logits) : context.workspace + GradientOffset();
    PENSTOCK_RETURN_IF_ERROR(ByType(shape_.type, [&](auto type) {
      return ToStatus(GradientOfRows(sizes_, Parts(all), targets, logits, GradientPitch(shape_), As(gradient, type),
                                     StreamOf(context)),
                      "the gradient of the logits");
    }));
    PENSTOCK_RETURN_IF_ERROR(products_.weight->Run(context, x, gradient, nullptr, dweight, mode == GradientMode::kAdd));
    return products_.input->Run(context, weight, gradient, nullptr, dx, /*accumulate=*/false);
  }

 private:
  bool Wide() const { return shape_.type == DataType::kFloat32; }
  // The workspace: the products' own, the losses', and the gradient in bf16.
  RowLosses RowsOf(const OpContext& context) const { return {context, context.workspace + products_bytes_}; }
  int64_t GradientOffset() const { return products_bytes_ + Aligned(RowLosses::bytes(shape_.rows)); }

  const LinearCrossEntropyShape shape_;
  const SplitSizes sizes_;
  const Products products_;
  const int64_t products_bytes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LinearCrossEntropy>> CreateLinearCrossEntropy(const LinearCrossEntropyShape& shape,
                                                                             MatmulFactory* matmuls) {
  const int64_t pitch = GradientPitch(shape);
  Products products;
  PENSTOCK_ASSIGN_OR_RETURN(products.project, matmuls->Create({.m = shape.columns(),
                                                               .n = shape.rows,
                                                               .k = shape.in,
                                                               .transpose_a = true,
                                                               .transpose_b = false,
                                                               .lda = shape.in,
                                                               .ldb = shape.in,
                                                               .ldd = shape.columns(),
                                                               .input = shape.type,
                                                               .output = DataType::kFloat32,
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
