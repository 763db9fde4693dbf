// A row-major matrix is its transpose column-major. So y = x W' + b becomes Y (out, rows) = W X + b, where X is (in,
// rows) and the weight is (in, out) for kOutIn and (out, in) for kInOut.
#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/kernels/column_sum.h"
#include "worker/ops/cuda/operations.h"

namespace penstock::cuda {
namespace {

class CudaLinear : public Linear {
 public:
  CudaLinear(const LinearShape& shape, std::unique_ptr<Matmul> forward, std::unique_ptr<Matmul> input,
             std::unique_ptr<Matmul> weight)
      : shape_(shape), forward_(std::move(forward)), input_(std::move(input)), weight_(std::move(weight)) {}

  int64_t workspace_bytes() const override {
    return std::max({forward_->workspace_bytes(), input_->workspace_bytes(), weight_->workspace_bytes(),
                     shape_.has_bias ? ColumnSumWorkspaceBytes(shape_.rows, shape_.out) : 0});
  }

  absl::Status Forward(const OpContext& context, const void* x, const void* weight, const void* bias,
                       void* y) const override {
    return forward_->Run(context, weight, x, bias, y, /*accumulate=*/false);
  }

  absl::Status BackwardInput(const OpContext& context, const void* dy, const void* weight, void* dx) const override {
    return input_->Run(context, weight, dy, nullptr, dx, /*accumulate=*/false);
  }

  absl::Status BackwardWeight(const OpContext& context, const void* x, const void* dy, float* dweight, float* dbias,
                              GradientMode mode) const override {
    const bool accumulate = mode == GradientMode::kAdd;
    const bool out_in = shape_.layout == WeightLayout::kOutIn;
    PENSTOCK_RETURN_IF_ERROR(weight_->Run(context, out_in ? x : dy, out_in ? dy : x, nullptr, dweight, accumulate));
    if (!shape_.has_bias) return absl::OkStatus();
    return ByType(shape_.type, [&](auto type) {
      return ToStatus(AddColumnSums(As(dy, type), shape_.rows, shape_.out, reinterpret_cast<float*>(context.workspace),
                                    dbias, StreamOf(context)),
                      "the gradient of a bias");
    });
  }

 private:
  const LinearShape shape_;
  const std::unique_ptr<Matmul> forward_;
  const std::unique_ptr<Matmul> input_;
  const std::unique_ptr<Matmul> weight_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Linear>> CreateLinear(const LinearShape& shape, MatmulFactory* matmuls) {
  const bool out_in = shape.layout == WeightLayout::kOutIn;
  const int64_t weight_ld = out_in ? shape.in : shape.out;
  PENSTOCK_ASSIGN_OR_RETURN(auto forward, matmuls->Create({.m = shape.out,
                                                           .n = shape.rows,
                                                           .k = shape.in,
                                                           .transpose_a = out_in,
                                                           .transpose_b = false,
                                                           .lda = weight_ld,
                                                           .ldb = shape.in,
                                                           .ldd = shape.out,
                                                           .input = shape.type,
                                                           .output = shape.type,
                                                           .has_bias = shape.has_bias}));
  PENSTOCK_ASSIGN_OR_RETURN(auto input, matmuls->Create({.m = shape.in,
                                                         .n = shape.rows,
                                                         .k = shape.out,
                                                         .transpose_a = !out_in,
                                                         .transpose_b = false,
                                                         .lda = weight_ld,
                                                         .ldb = shape.out,
                                                         .ldd = shape.in,
                                                         .input = shape.type,
                                                         .output = shape.type,
                                                         .has_bias = false}));
  // dW (in, out) = X dY' for kOutIn, (out, in) = dY X' for kInOut, into fp32.
  const int64_t first = out_in ? shape.in : shape.out;
  const int64_t second = out_in ? shape.out : shape.in;
  PENSTOCK_ASSIGN_OR_RETURN(auto weight, matmuls->Create({.m = first,
                                                          .n = second,
                                                          .k = shape.rows,
                                                          .transpose_a = false,
                                                          .transpose_b = true,
                                                          .lda = first,
                                                          .ldb = second,
                                                          .ldd = first,
                                                          .input = shape.type,
                                                          .output = DataType::kFloat32,
                                                          .has_bias = false}));
  return std::unique_ptr<Linear>(
      std::make_unique<CudaLinear>(shape, std::move(forward), std::move(input), std::move(weight)));
}

}  // namespace penstock::cuda
