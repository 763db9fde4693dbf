#include "worker/ops/cpu/linear_cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/base/bfloat16.h"
#include "core/base/status_macros.h"
#include "worker/ops/cpu/kernels.h"
#include "worker/ops/cpu/parallel.h"

namespace penstock::cpu {
namespace {

// Columns of logits at a time: with 512 rows 8 MiB, which the next pass still finds in the cache, and products of a
// shape that oneDNN is fastest on. A constant: the order of sums depends on it.
constexpr int64_t kSliceColumns = 4096;
constexpr int64_t kAlignment = 64;

int64_t Aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// One run of columns, with the products of its width.
struct Slice {
  int64_t begin = 0;  // from the first column that is here
  int64_t width = 0;
  std::shared_ptr<const Matmul> project;  // logits = x Wᵀ
  std::shared_ptr<const Matmul> weight;   // dW = dlogitsᵀ x
  std::shared_ptr<const Matmul> input;    // dx = dlogits W
};

template <typename T>
class CpuLinearCrossEntropy : public LinearCrossEntropy {
 public:
  CpuLinearCrossEntropy(const LinearCrossEntropyShape& shape, int threads, std::vector<Slice> slices)
      : shape_(shape), threads_(threads), slices_(std::move(slices)) {
    for (const Slice& slice : slices_) {
      for (const auto& product : {slice.project, slice.weight, slice.input}) {
        products_bytes_ = std::max(products_bytes_, Aligned(product->workspace_bytes()));
      }
    }
  }

  int64_t logits_bytes() const override { return shape_.rows * shape_.columns() * BytesOf(DataType::kFloat32); }
  int64_t workspace_bytes() const override {
    return InputGradientOffset() + (kWide ? 0 : Aligned(shape_.rows * shape_.in * BytesOf(DataType::kFloat32)));
  }

  absl::Status Forward(const OpContext& context, const void* x, const void* weight, const int32_t* targets,
                       void* logits, RowReduction* reductions, HeadPass) const override {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    float* const maxima = Rows(context);
    float* const sums = maxima + shape_.rows;
    std::fill_n(maxima, shape_.rows, -std::numeric_limits<float>::infinity());
    std::fill_n(sums, shape_.rows, 0.0F);
    for (const Slice& slice : slices_) {
      float* const scores = static_cast<float*>(logits) + slice.begin * shape_.rows;  // (rows, width)
      PENSTOCK_RETURN_IF_ERROR(slice.project->Run(context, x, WeightOf(weight, slice), nullptr, scores));
      ForEachRow(slice, [&](int64_t row) {
        float* const at = scores + row * slice.width;
        floats_.softmax_statistics(at, slice.width, maxima + row, sums + row);
        const int64_t column = targets[row] - shape_.vocab_begin - slice.begin;
        if (slice.begin == 0) reductions[row].target_logit = 0;
        if (column >= 0 && column < slice.width) reductions[row].target_logit = static_cast<double>(at[column]);
      });
    }
    for (int64_t row = 0; row < shape_.rows; ++row) {
      reductions[row].maximum = static_cast<double>(maxima[row]);
      reductions[row].sum = static_cast<double>(sums[row]);
    }
    return absl::OkStatus();
  }

  absl::Status Loss(const OpContext&, const RowReduction* all, const int32_t* targets, LossSum* total,
                    GradientMode mode) const override {
    LossSum sum;
    for (int64_t row = 0; row < shape_.rows; ++row) {
      if (targets[row] == kIgnoredTarget) continue;
      const RowReduction whole = Combine(all, row);
      sum.loss += std::log(whole.sum) - (whole.target_logit - whole.maximum);
      ++sum.target_count;
    }
    if (mode == GradientMode::kWrite) *total = {};
    total->loss += sum.loss;
    total->target_count += sum.target_count;
    return absl::OkStatus();
  }

  absl::Status Backward(const OpContext& context, const void* x, const void* weight, const RowReduction* all,
                        const int32_t* targets, void* logits, void* dx, float* dweight,
                        GradientMode mode) const override {
    PENSTOCK_CHECK(context.workspace_bytes >= workspace_bytes());
    float* const maxima = Rows(context);
    float* const scales = maxima + shape_.rows;
    for (int64_t row = 0; row < shape_.rows; ++row) {
      const RowReduction whole = Combine(all, row);
      maxima[row] = static_cast<float>(whole.maximum);
      scales[row] = static_cast<float>(1.0 / whole.sum);
    }
    float* const dx_sum =
        kWide ? static_cast<float*>(dx) : reinterpret_cast<float*>(context.workspace + InputGradientOffset());
    for (const Slice& slice : slices_) {
      float* const scores = static_cast<float*>(logits) + slice.begin * shape_.rows;
      T* gradient = reinterpret_cast<T*>(context.workspace + GradientOffset());  // (rows, width)
      if constexpr (kWide) gradient = scores;
      ForEachRow(slice, [&](int64_t row) {
        GradientRow(slice, targets[row], maxima[row], scales[row], scores + row * slice.width,
                    gradient + row * slice.width);
      });
      PENSTOCK_RETURN_IF_ERROR(
          slice.weight->Run(context, gradient, x, nullptr, dweight + slice.begin * shape_.in, mode));
      PENSTOCK_RETURN_IF_ERROR(slice.input->Run(context, gradient, WeightOf(weight, slice), nullptr, dx_sum,
                                                slice.begin == 0 ? GradientMode::kWrite : GradientMode::kAdd));
    }
    if constexpr (!kWide) {
      ParallelFor(threads_, shape_.rows * shape_.in, kParallelElementsMin, [&](int64_t begin, int64_t end) {
        const size_t size = static_cast<size_t>(end - begin);
        ToBfloat16({dx_sum + begin, size}, {static_cast<Bfloat16*>(dx) + begin, size});
      });
    }
    return absl::OkStatus();
  }

 private:
  // In fp32 a slice's gradient takes the place of its logits, and dx is added up where it belongs.
  static constexpr bool kWide = std::is_same_v<T, float>;

  // The workspace: the products' own, two floats a row, and unless kWide a slice's gradient and the sum of dx.
  int64_t GradientOffset() const { return products_bytes_ + Aligned(2 * shape_.rows * 4); }
  int64_t InputGradientOffset() const {
    return GradientOffset() +
           (kWide ? 0 : Aligned(shape_.rows * slices_.front().width * static_cast<int64_t>(sizeof(T))));
  }
  float* Rows(const OpContext& context) const { return reinterpret_cast<float*>(context.workspace + products_bytes_); }
  const void* WeightOf(const void* weight, const Slice& slice) const {
    return static_cast<const T*>(weight) + slice.begin * shape_.in;
  }

  template <typename Body>
  void ForEachRow(const Slice& slice, const Body& body) const {
    ParallelFor(threads_, shape_.rows, 1 + kParallelElementsMin / 4 / slice.width, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) body(row);
    });
  }

  void GradientRow(const Slice& slice, int32_t target, float maximum, float scale, const float* scores,
                   T* gradient) const {
    if (target == kIgnoredTarget) {
      std::fill_n(gradient, slice.width, T{});
      return;
    }
    const int64_t column = target - shape_.vocab_begin - slice.begin;
    const bool here = column >= 0 && column < slice.width;
    float at_target = 0;  // in fp32: 1 is taken off before it is rounded
    if (here) floats_.softmax_gradient(scores + column, 1, maximum, scale, &at_target);
    kernels_.softmax_gradient(scores, slice.width, maximum, scale, gradient);
    if (!here) return;
    if constexpr (kWide) {
      gradient[column] = at_target - 1.0F;
    } else {
      gradient[column] = ToBfloat16(at_target - 1.0F);
    }
  }

  RowReduction Combine(const RowReduction* all, int64_t row) const {
    RowReduction whole = all[row];
    if (shape_.ranks == 1) return whole;
    for (int rank = 1; rank < shape_.ranks; ++rank) {
      const double maximum = all[rank * shape_.rows + row].maximum;
      if (!(maximum <= whole.maximum)) whole.maximum = maximum;  // a NaN is kept
    }
    whole.sum = 0;
    whole.target_logit = 0;
    for (int rank = 0; rank < shape_.ranks; ++rank) {
      const RowReduction& part = all[rank * shape_.rows + row];
      whole.sum += part.sum * std::exp(part.maximum - whole.maximum);
      whole.target_logit += part.target_logit;
    }
    return whole;
  }

  const Kernels<T>& kernels_ = KernelsFor<T>();
  const Kernels<float>& floats_ = KernelsFor<float>();
  const LinearCrossEntropyShape shape_;
  const int threads_;
  const std::vector<Slice> slices_;
  int64_t products_bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LinearCrossEntropy>> CreateLinearCrossEntropy(const LinearCrossEntropyShape& shape,
                                                                             MatmulCache* cache) {
  std::vector<Slice> slices;
  for (int64_t begin = 0; begin < shape.columns(); begin += kSliceColumns) {
    Slice slice = {.begin = begin,
                   .width = std::min(kSliceColumns, shape.columns() - begin),
                   .project = nullptr,
                   .weight = nullptr,
                   .input = nullptr};
    PENSTOCK_ASSIGN_OR_RETURN(
        slice.project,
        cache->Get({.m = shape.rows, .n = slice.width, .k = shape.in, .b_transposed = true, .input = shape.type}));
    PENSTOCK_ASSIGN_OR_RETURN(
        slice.weight,
        cache->Get({.m = slice.width, .n = shape.in, .k = shape.rows, .a_transposed = true, .input = shape.type}));
    PENSTOCK_ASSIGN_OR_RETURN(slice.input,
                              cache->Get({.m = shape.rows, .n = shape.in, .k = slice.width, .input = shape.type}));
    slices.push_back(std::move(slice));
  }
  std::unique_ptr<LinearCrossEntropy> operation;
  if (shape.type == DataType::kBfloat16) {
    operation = std::make_unique<CpuLinearCrossEntropy<Bfloat16>>(shape, cache->threads(), std::move(slices));
  } else {
    operation = std::make_unique<CpuLinearCrossEntropy<float>>(shape, cache->threads(), std::move(slices));
  }
  return operation;
}

}  // namespace penstock::cpu
