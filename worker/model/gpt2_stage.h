// GPT-2's stages: the embedding on the first one, any number of layers, final norm, head and loss on the last one.
#ifndef PENSTOCK_WORKER_MODEL_GPT2_STAGE_H_
#define PENSTOCK_WORKER_MODEL_GPT2_STAGE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/model/stage_model.h"

namespace penstock {

// As CreateStageModel, for FAMILY_GPT2.
absl::StatusOr<std::unique_ptr<StageModel>> CreateGpt2Stage(const v1::ModelSpec& spec, const ParameterTable& table,
                                                            const StageOptions& options, Backend* backend,
                                                            MemoryPlan* plan);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_GPT2_STAGE_H_
