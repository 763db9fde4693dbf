// The tensor group of a rank over its Communicator.
//
// Thread-safety: none; the rank's thread. Everything given to Bind outlives it.
#ifndef PENSTOCK_WORKER_RUNTIME_COMM_TENSOR_GROUP_H_
#define PENSTOCK_WORKER_RUNTIME_COMM_TENSOR_GROUP_H_

#include <vector>

#include "worker/comm/communicator.h"
#include "worker/model/tensor_group.h"
#include "worker/runtime/rank_clock.h"

namespace penstock {

class CommTensorGroup : public TensorGroup {
 public:
  // `ranks` of the mesh, in tensor rank order; `tensor_rank` is this rank's index.
  CommTensorGroup(std::vector<int> ranks, int tensor_rank) : ranks_(std::move(ranks)), tensor_rank_(tensor_rank) {}

  // Before the first sum. `clock` may be null; it is told what of the time of computing the group took.
  void Bind(Communicator* comm, RankClock* clock) {
    comm_ = comm;
    clock_ = clock;
  }

  TensorShard shard() const override { return {.degree = static_cast<int>(ranks_.size()), .rank = tensor_rank_}; }
  absl::Status Sum(const OpContext& context, float* data, int64_t elements) override;
  absl::Status Gather(const OpContext& context, void* data, int64_t bytes) override;

 private:
  const std::vector<int> ranks_;
  const int tensor_rank_;
  Communicator* comm_ = nullptr;
  RankClock* clock_ = nullptr;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_COMM_TENSOR_GROUP_H_
