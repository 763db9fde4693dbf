#include "worker/model/stage_model.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "worker/model/gpt2_stage.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<StageModel>> CreateStageModel(const v1::ModelSpec& spec, const ParameterTable& table,
                                                             const StageOptions& options, Backend* backend,
                                                             MemoryPlan* plan) {
  switch (spec.family()) {
    case v1::ModelSpec::FAMILY_GPT2:
      return CreateGpt2Stage(spec, table, options, backend, plan);
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("model.family ", static_cast<int>(spec.family()), " has no layers here; expected gpt2"));
  }
}

}  // namespace penstock
