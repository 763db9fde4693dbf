// config.json of a Hugging Face GPT-2, read into a ModelSpec and written from one. Pure.
//
// A foreign file is never trusted: sizes are checked against the model's rules, and whatever would make another
// function of the same weights (another activation, an untied head, other scales of attention) is refused, since it
// would be computed wrongly in silence. What only matters in their training (dropout) or in their software is ignored.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_CONFIG_H_
#define PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_CONFIG_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

inline constexpr std::string_view kHuggingFaceConfigName = "config.json";
// Far above any model's.
inline constexpr size_t kHuggingFaceConfigBytesMax = 1 << 20;

// The whole model, sound by core/model/model_rules.h. INVALID_ARGUMENT naming the file's field and what would be right.
absl::StatusOr<v1::ModelSpec> ParseHuggingFaceConfig(std::string_view text);

// `model` has its defaults and is a GPT-2.
std::string FormatHuggingFaceConfig(const v1::ModelSpec& model);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_HUGGINGFACE_CONFIG_H_
