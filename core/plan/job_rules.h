// The one place that knows a job's defaults and what a job may ask for. Pure; used by the client (with file and line)
// and by the coordinator alike.
//
//   FillDefaults(&spec);
//   std::vector<v1::JobViolation> violations = CheckJob(spec);   // empty: the job is sound in itself
#ifndef PENSTOCK_CORE_PLAN_JOB_RULES_H_
#define PENSTOCK_CORE_PLAN_JOB_RULES_H_

#include <vector>

#include "absl/strings/string_view.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

// Gives every field that is missing its default. Idempotent. Each default and its reason stands in job_defaults.cc.
void FillDefaults(v1::JobSpec* spec);

// Everything that is out of range or impossible in combination, with the field's path ("model.heads"), what is wrong
// and what would be right; empty for a sound job. Expects defaults to be filled in. Sound sizes can't overflow 64-bit
// arithmetic anywhere. Doesn't look at files; the corpus is checked by services/data. A job whose plan is open
// (`parallel: auto`) is checked as WithSimplestPlan makes it.
std::vector<v1::JobViolation> CheckJob(const v1::JobSpec& spec);

// The job with everything that its plan leaves open at its smallest: one worker where no degree is given, micro-batches
// of one sample. A job is sound if this one is; whether more fits is for the planner to say.
v1::JobSpec WithSimplestPlan(v1::JobSpec spec);

// True for 1 to 63 letters, digits, '-', '_' and '.', the first one a letter or digit.
bool IsValidJobName(absl::string_view name);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_JOB_RULES_H_
