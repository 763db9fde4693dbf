// The parts of CheckJob, by section of the spec. Internal to core/plan.
#ifndef PENSTOCK_CORE_PLAN_JOB_CHECKER_H_
#define PENSTOCK_CORE_PLAN_JOB_CHECKER_H_

#include "core/model/violations.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

// Each adds what is wrong in its section, by itself.
void CheckData(const v1::DataSpec& data, Violations* violations);
void CheckTraining(const v1::TrainingSpec& training, Violations* violations);
void CheckOptimizer(const v1::OptimizerSpec& optimizer, Violations* violations);
void CheckParallel(const v1::ParallelSpec& parallel, Violations* violations);
void CheckCheckpoint(const v1::CheckpointSpec& checkpoint, Violations* violations);

// Adds what is impossible between sections whose own values are sound; silent about those that aren't.
void CheckCombinations(const v1::JobSpec& spec, Violations* violations);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_JOB_CHECKER_H_
