// A job as a user may submit it, as small as jobs get, for the coordinator's tests. Its corpus is corpus.txt in the
// folder that relative paths start at.
//
// Thread-safe: a free function.
#ifndef PENSTOCK_COORDINATOR_SERVER_SMALL_JOB_H_
#define PENSTOCK_COORDINATOR_SERVER_SMALL_JOB_H_

#include <cstdint>
#include <string>

#include "protos/penstock/v1/job.pb.h"

namespace penstock {

inline v1::JobSpec SmallJob(const std::string& name, uint64_t steps, uint32_t global_batch_size) {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_model()->set_family(v1::ModelSpec::FAMILY_GPT2);
  spec.mutable_model()->set_layers(1);
  spec.mutable_model()->set_hidden(8);
  spec.mutable_model()->set_heads(2);
  spec.mutable_model()->set_seq_length(16);
  spec.mutable_model()->set_vocab_size(128);
  spec.mutable_data()->set_path("corpus.txt");
  spec.mutable_data()->set_format(v1::DataSpec::FORMAT_BYTES);
  spec.mutable_training()->set_steps(steps);
  spec.mutable_training()->set_global_batch_size(global_batch_size);
  spec.mutable_training()->set_micro_batch_size(1);
  return spec;
}

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_SERVER_SMALL_JOB_H_
