#include "services/checkpoint/huggingface_config.h"

#include <array>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/model_rules.h"
#include "nlohmann/json.hpp"

namespace penstock {
namespace {

using Json = nlohmann::json;

// A config is flat but for a few lists.
constexpr int kDepthMax = 16;

// Our fields and theirs.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kFields = {{
    {"model.layers", "n_layer"},
    {"model.hidden", "n_embd"},
    {"model.heads", "n_head"},
    {"model.seq_length", "n_positions"},
    {"model.vocab_size", "vocab_size"},
    {"model.mlp_hidden", "n_inner"},
    {"model.layer_norm_epsilon", "layer_norm_epsilon"},
}};

std::string TheirName(const std::string& field) {
  for (const auto& [ours, theirs] : kFields) {
    if (field == ours) return std::string(theirs);
  }
  return field;
}

absl::Status Wrong(std::string_view field, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(std::string(field), " ", what));
}

// What a person would recognise of a value, whatever it is.
std::string Shown(const Json& value) {
  constexpr size_t kShownMax = 40;
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kShownMax) text = absl::StrCat(text.substr(0, kShownMax), "...");
  return text;
}

// Null counts as missing.
const Json* Find(const Json& config, std::string_view field) {
  const auto it = config.find(std::string(field));
  return it == config.end() || it->is_null() ? nullptr : &*it;
}

absl::StatusOr<uint32_t> ReadSize(const Json& config, std::string_view field) {
  const Json* value = Find(config, field);
  if (value == nullptr) return Wrong(field, "is missing; it is a number of a GPT-2's config");
  if (!value->is_number_unsigned() || value->get<uint64_t>() > std::numeric_limits<uint32_t>::max()) {
    return Wrong(field, absl::StrCat("is ", Shown(*value), "; it should be a whole number above 0"));
  }
  return static_cast<uint32_t>(value->get<uint64_t>());
}

absl::Status CheckFlag(const Json& config, std::string_view field, bool expected, const std::string& why) {
  const Json* value = Find(config, field);
  if (value == nullptr || (value->is_boolean() && value->get<bool>() == expected)) return absl::OkStatus();
  return Wrong(field,
               absl::StrCat("is ", Shown(*value), "; only ", expected ? "true" : "false", " can be read: ", why));
}

absl::Status CheckFunction(const Json& config) {
  const Json* type = Find(config, "model_type");
  if (type == nullptr) return Wrong("model_type", "is missing; this version reads \"gpt2\"");
  if (*type != "gpt2") return Wrong("model_type", absl::StrCat("is ", Shown(*type), "; this version reads \"gpt2\""));
  const Json* activation = Find(config, "activation_function");
  if (activation != nullptr && *activation != "gelu_new" && *activation != "gelu_pytorch_tanh") {
    return Wrong("activation_function", absl::StrCat("is ", Shown(*activation), "; only \"gelu_new\" is computed"));
  }
  PENSTOCK_RETURN_IF_ERROR(
      CheckFlag(config, "tie_word_embeddings", true, "the output head is the token embedding here"));
  PENSTOCK_RETURN_IF_ERROR(CheckFlag(config, "scale_attn_weights", true, "scores are always scaled here"));
  PENSTOCK_RETURN_IF_ERROR(
      CheckFlag(config, "scale_attn_by_inverse_layer_idx", false, "every layer's scores are scaled alike here"));
  return CheckFlag(config, "add_cross_attention", false, "there is no encoder here");
}

absl::StatusOr<v1::ModelSpec> ReadModel(const Json& config) {
  if (!config.is_object()) return absl::InvalidArgumentError("isn't a JSON object");
  PENSTOCK_RETURN_IF_ERROR(CheckFunction(config));
  v1::ModelSpec model;
  model.set_family(v1::ModelSpec::FAMILY_GPT2);
  PENSTOCK_ASSIGN_OR_RETURN(const uint32_t layers, ReadSize(config, "n_layer"));
  PENSTOCK_ASSIGN_OR_RETURN(const uint32_t hidden, ReadSize(config, "n_embd"));
  PENSTOCK_ASSIGN_OR_RETURN(const uint32_t heads, ReadSize(config, "n_head"));
  PENSTOCK_ASSIGN_OR_RETURN(const uint32_t positions, ReadSize(config, "n_positions"));
  PENSTOCK_ASSIGN_OR_RETURN(const uint32_t vocab_size, ReadSize(config, "vocab_size"));
  model.set_layers(layers);
  model.set_hidden(hidden);
  model.set_heads(heads);
  model.set_seq_length(positions);
  model.set_vocab_size(vocab_size);
  if (Find(config, "n_inner") != nullptr) {
    PENSTOCK_ASSIGN_OR_RETURN(const uint32_t inner, ReadSize(config, "n_inner"));
    model.set_mlp_hidden(inner);
  }
  if (const Json* epsilon = Find(config, "layer_norm_epsilon"); epsilon != nullptr) {
    if (!epsilon->is_number()) return Wrong("layer_norm_epsilon", absl::StrCat("is ", Shown(*epsilon)));
    model.set_layer_norm_epsilon(epsilon->get<double>());
  }
  // Older files say the number of positions twice.
  if (const Json* context = Find(config, "n_ctx"); context != nullptr && *context != positions) {
    return Wrong("n_ctx", absl::StrCat("is ", Shown(*context), ", but n_positions is ", positions));
  }
  FillModelDefaults(&model);
  Violations violations;
  CheckModel(model, &violations);
  if (!violations.empty()) {
    const v1::JobViolation& first = violations.list().front();
    return Wrong(TheirName(first.field()), first.message());
  }
  return model;
}

}  // namespace

absl::StatusOr<v1::ModelSpec> ParseHuggingFaceConfig(std::string_view text) {
  if (text.size() > kHuggingFaceConfigBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("has more than ", kHuggingFaceConfigBytesMax, " bytes"));
  }
  try {
    bool too_deep = false;
    const auto limit_depth = [&too_deep](int depth, Json::parse_event_t, Json&) {
      too_deep |= depth > kDepthMax;
      return !too_deep;
    };
    const Json config = Json::parse(text.begin(), text.end(), limit_depth);
    if (too_deep) return absl::InvalidArgumentError("is nested too deeply");
    return ReadModel(config);
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("can't be read: ", e.what()));
  }
}

std::string FormatHuggingFaceConfig(const v1::ModelSpec& model) {
  nlohmann::ordered_json json;
  json["architectures"] = {"GPT2LMHeadModel"};
  json["model_type"] = "gpt2";
  json["vocab_size"] = model.vocab_size();
  json["n_positions"] = model.seq_length();
  json["n_ctx"] = model.seq_length();
  json["n_embd"] = model.hidden();
  json["n_layer"] = model.layers();
  json["n_head"] = model.heads();
  json["n_inner"] = model.mlp_hidden();
  json["activation_function"] = "gelu_new";
  json["layer_norm_epsilon"] = model.layer_norm_epsilon();
  json["initializer_range"] = model.init_std();
  // Penstock trains without dropout.
  json["attn_pdrop"] = 0.0;
  json["embd_pdrop"] = 0.0;
  json["resid_pdrop"] = 0.0;
  // Theirs stand for a token of GPT-2's own vocabulary.
  json["bos_token_id"] = nullptr;
  json["eos_token_id"] = nullptr;
  json["scale_attn_weights"] = true;
  json["tie_word_embeddings"] = true;
  json["torch_dtype"] = "float32";
  return json.dump(2) + "\n";
}

}  // namespace penstock
