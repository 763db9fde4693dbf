#include "core/model/model_rules.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/model/model_limits.h"

namespace penstock {
namespace {

// What would make heads divide hidden: the multiples of heads around hidden, and the divisors of hidden around heads.
std::string HeadsAdvice(uint32_t hidden, uint32_t heads) {
  std::vector<uint32_t> hiddens;
  const uint32_t below = hidden / heads * heads;
  if (below > 0) hiddens.push_back(below);
  if (below + heads <= kHiddenMax) hiddens.push_back(below + heads);
  std::vector<uint32_t> divisors;
  for (uint32_t fewer = heads - 1; fewer >= 1; --fewer) {
    if (hidden % fewer != 0) continue;
    divisors.push_back(fewer);
    break;
  }
  for (uint32_t more = heads + 1; more <= hidden && more <= kHeadsMax; ++more) {
    if (hidden % more != 0) continue;
    divisors.push_back(more);
    break;
  }
  return absl::StrCat("use hidden ", absl::StrJoin(hiddens, " or "), ", or heads ", absl::StrJoin(divisors, " or "));
}

// Elements of the whole table; an upper bound that can't overflow once each size is within its limit.
int64_t ElementsBound(const v1::ModelSpec& model) {
  const int64_t hidden = model.hidden();
  const int64_t mlp = model.mlp_hidden();
  const int64_t layer = 4 * hidden * hidden + 2 * hidden * mlp + 9 * hidden + mlp;
  return model.layers() * layer + (int64_t{model.vocab_size()} + model.seq_length() + 2) * hidden;
}

}  // namespace

void FillModelDefaults(v1::ModelSpec* model) {
  // GPT-2's proportions. Bounded, so that a hidden size that is refused anyway doesn't wrap around.
  const bool from_scratch = model->from().empty();
  if (from_scratch && !model->has_mlp_hidden() && model->hidden() <= kHiddenMax) {
    model->set_mlp_hidden(4 * model->hidden());
  }
  // GPT-2's (and most others') initial weights.
  if (!model->has_init_std()) model->set_init_std(0.02);
  if (from_scratch && !model->has_layer_norm_epsilon()) model->set_layer_norm_epsilon(1e-5);
}

bool AwaitsFolder(const v1::ModelSpec& model) {
  return !model.from().empty() &&
         (model.family() == v1::ModelSpec::FAMILY_UNSPECIFIED || model.layers() == 0 || model.hidden() == 0 ||
          model.heads() == 0 || model.seq_length() == 0 || model.vocab_size() == 0 || !model.has_mlp_hidden() ||
          !model.has_layer_norm_epsilon());
}

void CheckModel(const v1::ModelSpec& model, Violations* violations) {
  if (model.family() != v1::ModelSpec::FAMILY_GPT2) {
    violations->Add("model.family", model.family() == v1::ModelSpec::FAMILY_UNSPECIFIED
                                        ? "is missing; this version knows: gpt2"
                                        : absl::StrCat("has the unknown value ", static_cast<int>(model.family()),
                                                       "; this version knows: gpt2"));
  }
  bool sizes_ok = violations->CheckRequired("model.layers", model.layers(), kLayersMax);
  const bool hidden_ok = violations->CheckRequired("model.hidden", model.hidden(), kHiddenMax);
  const bool heads_ok = violations->CheckRequired("model.heads", model.heads(), kHeadsMax);
  sizes_ok &= violations->CheckRequired("model.seq_length", model.seq_length(), kSeqLengthMax);
  sizes_ok &= violations->CheckRequired("model.vocab_size", model.vocab_size(), kVocabSizeMax);
  // Its default follows hidden; where that is wrong one message is enough.
  if (hidden_ok) sizes_ok &= violations->CheckInteger("model.mlp_hidden", model.mlp_hidden(), 1, kMlpHiddenMax);
  if (hidden_ok && heads_ok && model.hidden() % model.heads() != 0) {
    violations->Add("model.heads", absl::StrCat("is ", model.heads(), ", which doesn't divide hidden ", model.hidden(),
                                                "; ", HeadsAdvice(model.hidden(), model.heads())));
  }
  // Standard deviations and epsilons become floats: too small a one would be a denormal or 0.
  violations->CheckNumber("model.init_std", model.init_std(), {.low = 1e-30, .high = 1e6});
  violations->CheckNumber("model.layer_norm_epsilon", model.layer_norm_epsilon(), {.low = 1e-30, .high = 1.0});
  if (sizes_ok && hidden_ok && ElementsBound(model) > kElementsMax) {
    violations->Add("model", absl::StrCat("has ", ElementsBound(model), " parameters; at most ", kElementsMax,
                                          " are supported: use fewer layers or a smaller hidden size"));
  }
}

}  // namespace penstock
