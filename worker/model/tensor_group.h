// How the layers of a tensor-parallel stage add up what each tensor rank has computed of them (Shoeybi et al. 2019,
// "Megatron-LM"): two sums a layer forward, two backward. The layers see this and not the communicator; tests give them
// threads of one process.
//
// Thread-safety: none; the rank's thread. All ranks of a group call the same functions, in the same order and with the
// same sizes; that follows from the schedule, which is the same for all of them.
#ifndef PENSTOCK_WORKER_MODEL_TENSOR_GROUP_H_
#define PENSTOCK_WORKER_MODEL_TENSOR_GROUP_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "core/layout/tensor_shard.h"
#include "worker/ops/context.h"

namespace penstock {

class TensorGroup {
 public:
  virtual ~TensorGroup() = default;

  virtual TensorShard shard() const = 0;
  // Replaces data (elements) by the group's sum, added in rank order: the same bits on every rank.
  virtual absl::Status Sum(const OpContext& context, float* data, int64_t elements) = 0;
  // data (degree, bytes): each rank has written its own row and gets the others'.
  virtual absl::Status Gather(const OpContext& context, void* data, int64_t bytes) = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_MODEL_TENSOR_GROUP_H_
