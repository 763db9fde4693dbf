// Looks at a job's corpus before the job starts: everything that would stop it later, said at once.
//
// Thread-safe: a free function.
#ifndef PENSTOCK_SERVICES_DATA_INSPECT_H_
#define PENSTOCK_SERVICES_DATA_INSPECT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/job.pb.h"
#include "services/data/samples.h"

namespace penstock {

struct CorpusFacts {
  int64_t bytes = 0;
  int64_t tokens = 0;
  CorpusSplit split;
  // The largest token, and where it occurs first.
  int32_t largest_token = 0;
  int64_t largest_token_at = 0;
};

struct CorpusInspection {
  // Empty when the job can train on the corpus. Fields: data.path, data.validation_ratio, model.seq_length,
  // model.vocab_size.
  std::vector<v1::JobViolation> violations;
  // What doesn't keep the job from training and its owner should know; without violations only.
  std::vector<std::string> notes;
  CorpusFacts facts;
};

// Reads the whole corpus. `spec` has its defaults filled in and its own rules checked (CheckJob), and data.path
// resolved.
CorpusInspection InspectCorpus(const v1::JobSpec& spec);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_DATA_INSPECT_H_
