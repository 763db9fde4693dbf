// The learning rate of a step.
#ifndef PENSTOCK_CORE_OPTIMIZER_LEARNING_RATE_H_
#define PENSTOCK_CORE_OPTIMIZER_LEARNING_RATE_H_

#include <cstdint>

#include "protos/penstock/v1/job.pb.h"

namespace penstock {

// The rate that step `step` (1 <= step <= total_steps) is updated with. Linear warm-up over the first warmup_steps:
// step / warmup_steps of the rate, so that step warmup_steps has all of it. Then constant, or from learning_rate down
// to final_ratio * learning_rate at step total_steps: in a line, or half a cosine. A pure function; steps beyond
// total_steps keep the last rate.
double LearningRate(const v1::OptimizerSpec& optimizer, uint64_t total_steps, uint64_t step);

}  // namespace penstock

#endif  // PENSTOCK_CORE_OPTIMIZER_LEARNING_RATE_H_
