// How the last stage's losses come together at the leader: each data rank sends what it knows about its micro-batches,
// and the leader adds in (data rank, micro-batch) order, so that the sum's bits depend on neither depth nor schedule.
// Of a tensor group, whose ranks all have the same losses, tensor rank 0 speaks.
//
// Thread-safety: none; the rank's thread.
#ifndef PENSTOCK_WORKER_RUNTIME_LOSS_REPORT_H_
#define PENSTOCK_WORKER_RUNTIME_LOSS_REPORT_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protos/penstock/v1/step.pb.h"
#include "worker/comm/communicator.h"
#include "worker/runtime/executor.h"
#include "worker/runtime/rank_plan.h"

namespace penstock {

// Of one list's execution, training or validation. Nothing happens on other stages than the last, nor on other tensor
// ranks than 0.
class LossReport {
 public:
  LossReport(const RankPlan& plan, Communicator* comm) : plan_(plan), comm_(comm) {}

  // Before the list: the leader posts its receives for `micro_batches` of each data rank.
  absl::Status Begin(int micro_batches);
  // After the last forward pass: the other data ranks send theirs.
  absl::Status Send(const std::vector<MicroBatchLoss>& losses);
  // Of the other data ranks, when the leader must have taken it: waits for the send.
  absl::Status Finish();
  // The leader: all losses of the step, its own and the others'.
  absl::StatusOr<v1::StepInputs> Gather(const std::vector<MicroBatchLoss>& own);

 private:
  const RankPlan& plan_;
  Communicator* const comm_;
  std::vector<MicroBatchLoss> sent_;
  std::shared_ptr<Transfer> send_;
  // By data rank; the leader's own is empty.
  std::vector<std::vector<MicroBatchLoss>> received_;
  std::vector<std::shared_ptr<Transfer>> receives_;
};

// Adds up, in order; samples sorted and merged.
v1::StepInputs SumLosses(const std::vector<std::vector<MicroBatchLoss>>& by_data_rank);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_LOSS_REPORT_H_
