#include "services/checkpoint/huggingface_names.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

constexpr size_t kAxesMax = 4;

// How a kind of parameter differs; what isn't listed has the same name but for the layer's, and the same layout.
struct Kind {
  // End of the canonical name, and what stands there in theirs.
  std::string_view ours;
  std::string_view theirs;
  // As HuggingFaceTensor::axes; empty: the same order.
  std::vector<int> axes;
  // Axes that their tensor has; those of the view beyond are fused into the last one.
  size_t rank = 0;
};

const std::vector<Kind>& Kinds() {
  static const auto& kinds = *new std::vector<Kind>{
      // [C, (3, H, D)] and [(3, H, D)] are [H, 3, D, C] and [H, 3, D].
      {"attn.qkv.weight", "attn.c_attn.weight", {2, 1, 3, 0}, 2},
      {"attn.qkv.bias", "attn.c_attn.bias", {1, 0, 2}, 1},
      // Row-parallel: [in, out] on both sides.
      {"attn.proj.weight", "attn.c_proj.weight", {}, 2},
      {"attn.proj.bias", "attn.c_proj.bias", {}, 1},
      // Column-parallel: [in, out] is [out, in].
      {"mlp.fc.weight", "mlp.c_fc.weight", {1, 0}, 2},
      {"mlp.fc.bias", "mlp.c_fc.bias", {}, 1},
      {"mlp.proj.weight", "mlp.c_proj.weight", {}, 2},
      {"mlp.proj.bias", "mlp.c_proj.bias", {}, 1},
      {"wte", "wte.weight", {}, 2},
      {"wpe", "wpe.weight", {}, 2},
  };
  return kinds;
}

std::vector<int> InOrder(size_t axes) {
  std::vector<int> order(axes);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

}  // namespace

bool HuggingFaceTensor::same_order() const { return axes == InOrder(axes.size()); }

HuggingFaceTensor HuggingFaceTensorOf(const Parameter& parameter) {
  HuggingFaceTensor tensor;
  tensor.name = parameter.name;
  tensor.axes = InOrder(parameter.shape.size());
  size_t rank = parameter.shape.size();
  for (const Kind& kind : Kinds()) {
    if (!parameter.name.ends_with(kind.ours)) continue;
    tensor.name.replace(tensor.name.size() - kind.ours.size(), kind.ours.size(), kind.theirs);
    if (!kind.axes.empty()) tensor.axes = kind.axes;
    rank = kind.rank;
    break;
  }
  PENSTOCK_CHECK(tensor.axes.size() == parameter.shape.size() && rank <= tensor.axes.size());
  tensor.view.resize(tensor.axes.size());
  for (size_t i = 0; i < tensor.axes.size(); ++i) {
    tensor.view[static_cast<size_t>(tensor.axes[i])] = parameter.shape[i];
  }
  tensor.shape.assign(tensor.view.begin(), tensor.view.begin() + static_cast<std::ptrdiff_t>(rank));
  for (size_t i = rank; i < tensor.view.size(); ++i) tensor.shape.back() *= tensor.view[i];
  return tensor;
}

bool IsHuggingFaceBuffer(std::string_view name) {
  if (!name.starts_with("h.")) return false;
  name.remove_prefix(2);
  const size_t dot = name.find('.');
  int layer = 0;
  if (dot == std::string_view::npos || !absl::SimpleAtoi(absl::string_view(name.data(), dot), &layer)) return false;
  name.remove_prefix(dot + 1);
  return name == "attn.bias" || name == "attn.masked_bias";
}

void PermuteAxes(std::span<const int64_t> shape, std::span<const int> axes, std::span<const float> in,
                 std::span<float> out) {
  PENSTOCK_CHECK(shape.size() == axes.size() && shape.size() <= kAxesMax && in.size() == out.size());
  std::array<int64_t, kAxesMax> in_strides{};
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    in_strides[i] = stride;
    stride *= shape[i];
  }
  PENSTOCK_CHECK(stride == static_cast<int64_t>(in.size()));
  // Sizes of `out`, and how far in `in` a step along each of its axes leads; axes of size 1 before those that are used.
  std::array<int64_t, kAxesMax> sizes;
  std::array<int64_t, kAxesMax> steps{};
  sizes.fill(1);
  const size_t unused = kAxesMax - axes.size();
  for (size_t i = 0; i < axes.size(); ++i) {
    sizes[unused + i] = shape[static_cast<size_t>(axes[i])];
    steps[unused + i] = in_strides[static_cast<size_t>(axes[i])];
  }
  float* to = out.data();
  for (int64_t a = 0; a < sizes[0]; ++a) {
    for (int64_t b = 0; b < sizes[1]; ++b) {
      for (int64_t c = 0; c < sizes[2]; ++c) {
        const float* from = in.data() + a * steps[0] + b * steps[1] + c * steps[2];
        for (int64_t d = 0; d < sizes[3]; ++d) *to++ = from[d * steps[3]];
      }
    }
  }
}

void ToCanonical(const HuggingFaceTensor& tensor, std::span<const float> theirs, std::span<float> canonical) {
  PermuteAxes(tensor.view, tensor.axes, theirs, canonical);
}

void FromCanonical(const HuggingFaceTensor& tensor, std::span<const float> canonical, std::span<float> theirs) {
  std::vector<int64_t> shape(tensor.axes.size());
  std::vector<int> back(tensor.axes.size());
  for (size_t i = 0; i < tensor.axes.size(); ++i) {
    shape[i] = tensor.view[static_cast<size_t>(tensor.axes[i])];
    back[static_cast<size_t>(tensor.axes[i])] = static_cast<int>(i);
  }
  PermuteAxes(shape, back, canonical, theirs);
}

}  // namespace penstock
