// A model's defaults and what it may ask for. Part of the job's rules (core/plan/job_rules.h), and what the parameter
// table checks before it multiplies sizes, so that the two can't disagree. Pure.
#ifndef PENSTOCK_CORE_MODEL_MODEL_RULES_H_
#define PENSTOCK_CORE_MODEL_MODEL_RULES_H_

#include "core/model/violations.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

// Gives every field that is missing its default. Idempotent. With model.from, what the folder says is left out.
void FillModelDefaults(v1::ModelSpec* model);

// Whether something of the model is still to come from the folder that model.from names, so that it can't be checked.
// Never after services/checkpoint/pretrained.h FillModelFrom.
bool AwaitsFolder(const v1::ModelSpec& model);

// Adds what is wrong, with fields named "model.heads". Expects defaults to be filled in.
void CheckModel(const v1::ModelSpec& model, Violations* violations);

}  // namespace penstock

#endif  // PENSTOCK_CORE_MODEL_MODEL_RULES_H_
