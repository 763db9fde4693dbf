#include "core/plan/job_facts.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace penstock {
namespace {

bool IsMultipleOf(uint64_t step, uint64_t every) { return every > 0 && step % every == 0; }

}  // namespace

absl::StatusOr<Mesh> MeshOf(const v1::JobSpec& spec) {
  const v1::ParallelSpec& parallel = spec.parallel();
  // Values that no int holds become negative here, and are refused.
  return Mesh::Create(static_cast<int>(parallel.pipeline()), static_cast<int>(parallel.data()),
                      static_cast<int>(parallel.tensor()));
}

int WorldSize(const v1::JobSpec& spec) {
  const v1::ParallelSpec& parallel = spec.parallel();
  return static_cast<int>(parallel.pipeline() * parallel.data() * parallel.tensor());
}

ScheduleKind ScheduleKindOf(const v1::JobSpec& spec) {
  return spec.parallel().schedule() == v1::ParallelSpec::SCHEDULE_GPIPE ? ScheduleKind::kGpipe : ScheduleKind::k1F1B;
}

DataType ComputeType(const v1::JobSpec& spec) {
  return spec.training().precision() == v1::TrainingSpec::PRECISION_BF16 ? DataType::kBfloat16 : DataType::kFloat32;
}

int MicroBatches(const v1::JobSpec& spec) {
  const uint64_t unit = uint64_t{spec.parallel().data()} * spec.training().micro_batch_size();
  PENSTOCK_CHECK(unit > 0);
  return static_cast<int>(spec.training().global_batch_size() / unit);
}

uint64_t SamplesBegin(const v1::JobSpec& spec, uint64_t step) {
  PENSTOCK_CHECK(step >= 1);
  return SamplesConsumed(spec, step - 1);
}

uint64_t SamplesConsumed(const v1::JobSpec& spec, uint64_t version) {
  return version * spec.training().global_batch_size();
}

SampleWindow SamplesOfStep(const v1::JobSpec& spec, uint64_t step) {
  return {SamplesBegin(spec, step), SamplesConsumed(spec, step)};
}

SampleWindow SamplesOfRank(const v1::JobSpec& spec, uint64_t step, int data_rank) {
  PENSTOCK_CHECK(data_rank >= 0 && static_cast<uint32_t>(data_rank) < spec.parallel().data());
  const uint64_t each = spec.training().global_batch_size() / spec.parallel().data();
  const uint64_t begin = SamplesBegin(spec, step) + static_cast<uint64_t>(data_rank) * each;
  return {begin, begin + each};
}

SampleWindow SamplesOfMicroBatch(const v1::JobSpec& spec, uint64_t step, int data_rank, int micro_batch) {
  PENSTOCK_CHECK(micro_batch >= 0 && micro_batch < MicroBatches(spec));
  const uint64_t each = spec.training().micro_batch_size();
  const uint64_t begin = SamplesOfRank(spec, step, data_rank).begin + static_cast<uint64_t>(micro_batch) * each;
  return {begin, begin + each};
}

uint64_t ValidationSamples(const v1::JobSpec& spec, uint64_t available) {
  const uint64_t batch = spec.training().global_batch_size();
  PENSTOCK_CHECK(batch > 0);
  const uint64_t wanted = (spec.training().validation_samples() + batch - 1) / batch;
  return std::min(wanted, available / batch) * batch;
}

bool IsCheckpointStep(const v1::JobSpec& spec, uint64_t step) {
  if (step == 0 || spec.checkpoint().directory().empty()) return false;
  return step == spec.training().steps() || IsMultipleOf(step, spec.checkpoint().every_steps());
}

bool IsDigestStep(const v1::JobSpec& spec, uint64_t step) {
  if (step == 0) return false;
  return step == spec.training().steps() || IsCheckpointStep(spec, step) ||
         IsMultipleOf(step, spec.training().digest_every_steps());
}

bool IsValidationStep(const v1::JobSpec& spec, uint64_t step) {
  if (step == 0 || spec.training().validate_every_steps() == 0 || spec.data().validation_ratio() == 0) return false;
  return step == spec.training().steps() || IsMultipleOf(step, spec.training().validate_every_steps());
}

bool OnGpus(const v1::JobSpec& spec) { return spec.parallel().device() == v1::ParallelSpec::DEVICE_CUDA; }

bool UpdatesLocally(const v1::JobSpec& spec) {
  return spec.parallel().zero().placement() == v1::ZeroSpec::PLACEMENT_LOCAL;
}

bool IsPublished(const v1::JobSpec& spec) {
  return UpdatesLocally(spec) && spec.parallel().zero().mirror() == v1::ZeroSpec::MIRROR_OFF;
}

bool IsOffloaded(const v1::JobSpec& spec) {
  return UpdatesLocally(spec) && OnGpus(spec) && spec.parallel().zero().offload() == v1::ZeroSpec::OFFLOAD_HOST;
}

bool OffloadsGradients(const v1::JobSpec& spec) { return IsOffloaded(spec) && spec.parallel().zero().stage() == 2; }

int GradientSums(const v1::JobSpec& spec) {
  const v1::ZeroSpec& zero = spec.parallel().zero();
  const bool in_place =
      zero.stage() == 2 && UpdatesLocally(spec) && !IsPublished(spec) && (!OnGpus(spec) || OffloadsGradients(spec));
  return in_place ? 1 + static_cast<int>(zero.mirror_lag()) : 1;
}

bool HoldsMasterWeights(const v1::JobSpec& spec) {
  return UpdatesLocally(spec) && (ComputeType(spec) != DataType::kFloat32 || IsOffloaded(spec));
}

}  // namespace penstock
