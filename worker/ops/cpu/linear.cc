#include "worker/ops/cpu/linear.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "worker/ops/cpu/gelu.h"
#include "worker/ops/cpu/kernels.h"
#include "worker/ops/cpu/parallel.h"
#include "worker/ops/cpu/residual.h"

namespace penstock::cpu {
namespace {

// Threads share a bias in runs of this many columns.
constexpr int64_t kColumnUnit = 64;

// Adds the sum over all rows of dy (rows, width) to dbias (width). Columns are cut over threads: bits don't depend on
// them.
template <typename T>
void AddColumnSums(const void* dy, int64_t rows, int64_t width, int threads, float* dbias) {
  ParallelFor(threads, width, kColumnUnit, [&](int64_t begin, int64_t end) {
    KernelsFor<T>().column_sums(static_cast<const T*>(dy), rows, width, begin, end, dbias);
  });
}

class CpuLinear : public Linear {
 public:
  using Product = std::shared_ptr<const Matmul>;

  CpuLinear(const LinearShape& shape, int threads, Product forward, Product input, Product weight)
      : shape_(shape),
        threads_(threads),
        forward_(std::move(forward)),
        input_(std::move(input)),
        weight_(std::move(weight)),
        add_(CreateResidualAdd(shape.rows * shape.out, shape.type, threads)),
        gelu_(shape.gelu == WithGelu::kNot
                  ? nullptr
                  : CreateGelu(shape.rows * (shape.gelu == WithGelu::kBehind ? shape.out : shape.in), shape.type,
                               threads)) {}

  int64_t workspace_bytes() const override {
    return std::max({forward_->workspace_bytes(), input_->workspace_bytes(), weight_->workspace_bytes()});
  }

  absl::Status Forward(const OpContext& context, const void* x, const void* weight, const void* bias,
                       void* y) const override {
    return forward_->Run(context, x, weight, bias, y, GradientMode::kWrite);
  }

  bool adds() const override { return false; }

  absl::Status ForwardAdd(const OpContext& context, const void* x, const void* weight, const void* bias,
                          const void* addend, void* y) const override {
    PENSTOCK_RETURN_IF_ERROR(Forward(context, x, weight, bias, y));
    return add_->Forward(context, addend, y, y);
  }

  absl::Status ForwardGelu(const OpContext& context, const void* x, const void* weight, const void* bias, void* inner,
                           void* y) const override {
    PENSTOCK_CHECK(shape_.gelu == WithGelu::kBehind);
    PENSTOCK_RETURN_IF_ERROR(Forward(context, x, weight, bias, inner));
    return gelu_->Forward(context, inner, y);
  }

  absl::Status BackwardInputGelu(const OpContext& context, const void* dy, const void* weight, const void* inner,
                                 void* dinner) const override {
    PENSTOCK_CHECK(shape_.gelu == WithGelu::kBefore);
    PENSTOCK_RETURN_IF_ERROR(BackwardInput(context, dy, weight, dinner));
    return gelu_->Backward(context, inner, dinner, dinner);
  }

  absl::Status BackwardInput(const OpContext& context, const void* dy, const void* weight, void* dx) const override {
    return input_->Run(context, dy, weight, nullptr, dx, GradientMode::kWrite);
  }

  absl::Status BackwardWeight(const OpContext& context, const void* x, const void* dy, float* dweight, float* dbias,
                              GradientMode mode) const override {
    if (shape_.has_bias) {
      if (mode == GradientMode::kWrite) std::fill_n(dbias, shape_.out, 0.0F);
      (shape_.type == DataType::kBfloat16 ? AddColumnSums<Bfloat16> : AddColumnSums<float>)(dy, shape_.rows, shape_.out,
                                                                                            threads_, dbias);
    }
    return shape_.layout == WeightLayout::kOutIn ? weight_->Run(context, dy, x, nullptr, dweight, mode)
                                                 : weight_->Run(context, x, dy, nullptr, dweight, mode);
  }

 private:
  const LinearShape shape_;
  const int threads_;
  const Product forward_;
  const Product input_;
  const Product weight_;
  const std::unique_ptr<ResidualAdd> add_;
  const std::unique_ptr<Gelu> gelu_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Linear>> CreateLinear(const LinearShape& shape, MatmulCache* cache) {
  const bool out_in = shape.layout == WeightLayout::kOutIn;
  const DataType type = shape.type;
  PENSTOCK_ASSIGN_OR_RETURN(auto forward, cache->Get({.m = shape.rows,
                                                      .n = shape.out,
                                                      .k = shape.in,
                                                      .b_transposed = out_in,
                                                      .has_bias = shape.has_bias,
                                                      .input = type,
                                                      .output = type}));
  PENSTOCK_ASSIGN_OR_RETURN(
      auto input,
      cache->Get(
          {.m = shape.rows, .n = shape.in, .k = shape.out, .b_transposed = !out_in, .input = type, .output = type}));
  PENSTOCK_ASSIGN_OR_RETURN(auto weight, cache->Get({.m = out_in ? shape.out : shape.in,
                                                     .n = out_in ? shape.in : shape.out,
                                                     .k = shape.rows,
                                                     .a_transposed = true,
                                                     .input = type,
                                                     .output = DataType::kFloat32}));
  return std::unique_ptr<Linear>(
      std::make_unique<CpuLinear>(shape, cache->threads(), std::move(forward), std::move(input), std::move(weight)));
}

}  // namespace penstock::cpu
