// Hugging Face's GPT-2 tensors and the parameter table's, by name: which is which, and how their axes lie.
//
// Both hold the same numbers. Theirs keep every linear's weight as [in, out] and q, k and v one after the other;
// canonical storage has the split axis outermost (core/model/parameter_table.h). So a tensor of theirs, looked at with
// its fused axes apart, is the canonical one with its axes in another order. Pure.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_NAMES_H_
#define PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_NAMES_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/model/parameter_table.h"

namespace penstock {

// "transformer.", which a model with an output head puts before every name and one without leaves out.
inline constexpr std::string_view kHuggingFacePrefix = "transformer.";
// The output head; the same as the token embedding, and mostly not written.
inline constexpr std::string_view kHuggingFaceHead = "lm_head.weight";

struct HuggingFaceTensor {
  // Without the prefix: "h.0.attn.c_attn.weight".
  std::string name;
  // As they write it: [C, 3 C].
  std::vector<int64_t> shape;
  // The same elements with fused axes apart: [C, 3, H, D].
  std::vector<int64_t> view;
  // Axis i of the canonical parameter is axis axes[i] of the view.
  std::vector<int> axes;

  // Whether the bytes lie as they do here.
  bool same_order() const;
};

HuggingFaceTensor HuggingFaceTensorOf(const Parameter& parameter);

// Causal masks, which older folders store as if they were weights. Name without the prefix.
bool IsHuggingFaceBuffer(std::string_view name);

// out, of shape [shape[axes[0]], shape[axes[1]], ...], is `in`, of shape `shape`, with its axes in that order. At most
// four axes.
void PermuteAxes(std::span<const int64_t> shape, std::span<const int> axes, std::span<const float> in,
                 std::span<float> out);

// Theirs to canonical, and back; spans of the whole tensor.
void ToCanonical(const HuggingFaceTensor& tensor, std::span<const float> theirs, std::span<float> canonical);
void FromCanonical(const HuggingFaceTensor& tensor, std::span<const float> canonical, std::span<float> theirs);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_NAMES_H_
