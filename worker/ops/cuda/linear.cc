// A row-major matrix is its transpose column-major. So y = x W' + b becomes Y (out, rows) = W X + b, where X is (in,
// rows) and the weight is (in, out) for kOutIn and (out, in) for kInOut.
#include <algorithm>
#include <initializer_list>
#include <utility>

#include "core/base/status_macros.h"
#include "worker/cuda/status.h"
#include "worker/ops/cuda/kernels/column_sum.h"
#include "worker/ops/cuda/operations.h"

namespace penstock::cuda {
namespace {

class CudaLinear : public Linear {
 public:
  // `fused`: the product that GELU is a part of, or null where that isn't possible.
  CudaLinear(const LinearShape& shape, std::unique_ptr<Matmul> forward, std::unique_ptr<Matmul> input,
             std::unique_ptr<Matmul> weight, std::unique_ptr<Matmul> fused)
      : shape_(shape),
        forward_(std::move(forward)),
        input_(std::move(input)),
        weight_(std::move(weight)),
        fused_(std::move(fused)),
        gelu_(CreateGelu(shape.rows * (shape.gelu == WithGelu::kBehind ? shape.out : shape.in), shape.type)) {}

  int64_t workspace_bytes() const override {
    return std::max({forward_->workspace_bytes(), input_->workspace_bytes(), weight_->workspace_bytes(),
                     fused_ != nullptr ? fused_->workspace_bytes() : 0,
                     shape_.has_bias ? ColumnSumWorkspaceBytes(shape_.rows, shape_.out) : 0});
  }

  absl::Status Forward(const OpContext& context, const void* x, const void* weight, const void* bias,
                       void* y) const override {
    return forward_->Run(context, weight, x, bias, /*addend=*/nullptr, y);
  }

  bool adds() const override { return true; }

  absl::Status ForwardAdd(const OpContext& context, const void* x, const void* weight, const void* bias,
                          const void* addend, void* y) const override {
    return forward_->Run(context, weight, x, bias, addend, y);
  }

  absl::Status ForwardGelu(const OpContext& context, const void* x, const void* weight, const void* bias, void* inner,
                           void* y) const override {
    PENSTOCK_CHECK(shape_.gelu == WithGelu::kBehind);
    if (Fuses({x, weight, bias, inner, y})) return fused_->Run(context, weight, x, bias, /*addend=*/nullptr, y, inner);
    PENSTOCK_RETURN_IF_ERROR(Forward(context, x, weight, bias, inner));
    return gelu_->Forward(context, inner, y);
  }

  absl::Status BackwardInputGelu(const OpContext& context, const void* dy, const void* weight, const void* inner,
                                 void* dinner) const override {
    PENSTOCK_CHECK(shape_.gelu == WithGelu::kBefore);
    if (Fuses({dy, weight, inner, dinner})) {
      // Only read, with this epilogue.
      return fused_->Run(context, weight, dy, nullptr, /*addend=*/nullptr, dinner, const_cast<void*>(inner));
    }
    PENSTOCK_RETURN_IF_ERROR(BackwardInput(context, dy, weight, dinner));
    return gelu_->Backward(context, inner, dinner, dinner);
  }

  absl::Status BackwardInput(const OpContext& context, const void* dy, const void* weight, void* dx) const override {
    return input_->Run(context, weight, dy, nullptr, /*addend=*/nullptr, dx);
  }

  absl::Status BackwardWeight(const OpContext& context, const void* x, const void* dy, float* dweight, float* dbias,
                              GradientMode mode) const override {
    const void* const addend = mode == GradientMode::kAdd ? dweight : nullptr;
    const bool out_in = shape_.layout == WeightLayout::kOutIn;
    PENSTOCK_RETURN_IF_ERROR(weight_->Run(context, out_in ? x : dy, out_in ? dy : x, nullptr, addend, dweight));
    if (!shape_.has_bias) return absl::OkStatus();
    return ByType(shape_.type, [&](auto type) {
      return ToStatus(ColumnSums(As(dy, type), shape_.rows, shape_.out, reinterpret_cast<float*>(context.workspace),
                                 dbias, mode == GradientMode::kAdd, StreamOf(context)),
                      "the gradient of a bias");
    });
  }

 private:
  bool Fuses(std::initializer_list<const void*> addresses) const {
    return fused_ != nullptr && std::ranges::all_of(addresses, [](const void* address) {
             return reinterpret_cast<uintptr_t>(address) % kMatmulAlignment == 0;
           });
  }

  const LinearShape shape_;
  const std::unique_ptr<Matmul> forward_;
  const std::unique_ptr<Matmul> input_;
  const std::unique_ptr<Matmul> weight_;
  const std::unique_ptr<Matmul> fused_;
  const std::unique_ptr<Gelu> gelu_;
};

MatmulSpec ForwardProduct(const LinearShape& shape) {
  const bool out_in = shape.layout == WeightLayout::kOutIn;
  return {.m = shape.out,
          .n = shape.rows,
          .k = shape.in,
          .transpose_a = out_in,
          .transpose_b = false,
          .lda = out_in ? shape.in : shape.out,
          .ldb = shape.in,
          .ldd = shape.out,
          .input = shape.type,
          .output = shape.type,
          .has_bias = shape.has_bias,
          .epilogue = Epilogue::kNone};
}

MatmulSpec InputProduct(const LinearShape& shape) {
  const bool out_in = shape.layout == WeightLayout::kOutIn;
  return {.m = shape.in,
          .n = shape.rows,
          .k = shape.out,
          .transpose_a = !out_in,
          .transpose_b = false,
          .lda = out_in ? shape.in : shape.out,
          .ldb = shape.out,
          .ldd = shape.in,
          .input = shape.type,
          .output = shape.type,
          .has_bias = false,
          .epilogue = Epilogue::kNone};
}

// The product with GELU, where the library has it. Not in fp32, where the library's own tanh would be what decides how
// near to the reference a job is.
absl::StatusOr<std::unique_ptr<Matmul>> CreateFused(const LinearShape& shape, MatmulFactory* matmuls) {
  if (shape.gelu == WithGelu::kNot || shape.type == DataType::kFloat32) return std::unique_ptr<Matmul>();
  const bool behind = shape.gelu == WithGelu::kBehind;
  MatmulSpec spec = behind ? ForwardProduct(shape) : InputProduct(shape);
  spec.epilogue = behind ? Epilogue::kGelu : Epilogue::kGeluGradient;
  absl::StatusOr<std::unique_ptr<Matmul>> fused = matmuls->Create(spec);
  if (absl::IsUnimplemented(fused.status())) return std::unique_ptr<Matmul>();
  return fused;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Linear>> CreateLinear(const LinearShape& shape, MatmulFactory* matmuls) {
  const bool out_in = shape.layout == WeightLayout::kOutIn;
  PENSTOCK_ASSIGN_OR_RETURN(auto forward, matmuls->Create(ForwardProduct(shape)));
  PENSTOCK_ASSIGN_OR_RETURN(auto input, matmuls->Create(InputProduct(shape)));
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
  PENSTOCK_ASSIGN_OR_RETURN(auto fused, CreateFused(shape, matmuls));
  return std::unique_ptr<Linear>(
      std::make_unique<CudaLinear>(shape, std::move(forward), std::move(input), std::move(weight), std::move(fused)));
}

}  // namespace penstock::cuda
