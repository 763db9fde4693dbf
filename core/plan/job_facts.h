// What follows from a job's spec alone, so that worker, shard and coordinator can't disagree. All of them expect a spec
// with its defaults that CheckJob finds sound.
#ifndef PENSTOCK_CORE_PLAN_JOB_FACTS_H_
#define PENSTOCK_CORE_PLAN_JOB_FACTS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "core/base/data_type.h"
#include "core/mesh/mesh.h"
#include "core/schedule/schedule.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

// Samples [begin, end) of a sample order.
struct SampleWindow {
  uint64_t begin = 0;
  uint64_t end = 0;

  uint64_t size() const { return end - begin; }
  friend bool operator==(const SampleWindow&, const SampleWindow&) = default;
};

absl::StatusOr<Mesh> MeshOf(const v1::JobSpec& spec);
// Workers that the job needs.
int WorldSize(const v1::JobSpec& spec);
ScheduleKind ScheduleKindOf(const v1::JobSpec& spec);
// What the job computes in (training.precision).
DataType ComputeType(const v1::JobSpec& spec);

// Micro-batches of one data rank in a step.
int MicroBatches(const v1::JobSpec& spec);

// First sample of step `step` >= 1; also the number of samples consumed by version step - 1.
uint64_t SamplesBegin(const v1::JobSpec& spec, uint64_t step);
// Samples consumed by version `version` (0: none).
uint64_t SamplesConsumed(const v1::JobSpec& spec, uint64_t version);
// Samples of the whole step.
SampleWindow SamplesOfStep(const v1::JobSpec& spec, uint64_t step);
// The part of it that data rank `data_rank` takes.
SampleWindow SamplesOfRank(const v1::JobSpec& spec, uint64_t step, int data_rank);
// The part of that in micro-batch `micro_batch`.
SampleWindow SamplesOfMicroBatch(const v1::JobSpec& spec, uint64_t step, int data_rank, int micro_batch);

// Samples used at an evaluation when the held-out tail has `available` of them: validation_samples rounded up to whole
// global batches, but no more whole global batches than the tail has; 0 when it has less than one.
uint64_t ValidationSamples(const v1::JobSpec& spec, uint64_t available);

// Whether a checkpoint, a digest or an evaluation belongs to version `step`. Never for step 0. A checkpoint step is
// always a digest step; so is the last step.
bool IsCheckpointStep(const v1::JobSpec& spec, uint64_t step);
bool IsDigestStep(const v1::JobSpec& spec, uint64_t step);
bool IsValidationStep(const v1::JobSpec& spec, uint64_t step);

// Whether its ranks compute on GPUs, with memory of their own (parallel.device cuda).
bool OnGpus(const v1::JobSpec& spec);

// Whether the data ranks hold the optimizer state and update at once (zero.placement local; auto until it is resolved
// is as service).
bool UpdatesLocally(const v1::JobSpec& spec);
// Of those: whether the service gets the state itself at digest steps, instead of every step's gradients (zero.mirror
// off).
bool IsPublished(const v1::JobSpec& spec);
// Of those: whether the optimizer state is in the memory of the GPUs' hosts, which update the weights (zero.offload
// host).
bool IsOffloaded(const v1::JobSpec& spec);
// Of those: whether the sums of the gradients that a rank owns are there, too: in ZeRO 2, which keeps no others.
bool OffloadsGradients(const v1::JobSpec& spec);
// With ZeRO 2, sets of those sums that are used by turns: where they are in the host's memory a mirror sends them as they
// are, at most mirror_lag of them at a time, while the next step has one more.
int GradientSums(const v1::JobSpec& spec);
// Of those that update: whether fp32 master weights belong to the optimizer state, because the model's own are rounded or
// elsewhere.
bool HoldsMasterWeights(const v1::JobSpec& spec);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_JOB_FACTS_H_
