// GPT-2's loss in double, from canonical weights: what the fp32 stages are checked against. Tests only.
#ifndef PENSTOCK_WORKER_MODEL_TESTING_REFERENCE_GPT2_H_
#define PENSTOCK_WORKER_MODEL_TESTING_REFERENCE_GPT2_H_

#include <cstdint>
#include <vector>

#include "core/model/parameter_table.h"
#include "core/random/dropout_rule.h"
#include "protos/penstock/v1/job.pb.h"
#include "worker/ops/reference/operations.h"

namespace penstock::reference {

// What is dropped: of samples first_sample, ...
struct Gpt2Dropout {
  DropoutRule rule;
  uint64_t first_sample = 0;
};

// The sum of the losses over the targets of `tokens` (samples, T), the whole canonical space given.
double Gpt2Loss(const v1::ModelSpec& spec, const ParameterTable& table, const Values& weights, const Tokens& tokens,
                const Tokens& targets, const Gpt2Dropout& dropout = {});

}  // namespace penstock::reference

#endif  // PENSTOCK_WORKER_MODEL_TESTING_REFERENCE_GPT2_H_
