// Every default of a job file, with its reason. (The model's stand in core/model/model_rules.cc.)
#include "core/model/model_rules.h"
#include "core/plan/job_rules.h"

namespace penstock {
namespace {

void FillDataDefaults(v1::DataSpec* data) {
  // The only format of this version.
  if (data->format() == v1::DataSpec::FORMAT_UNSPECIFIED) data->set_format(v1::DataSpec::FORMAT_BYTES);
  // The customary tenth: without held-out text nobody sees overfitting. 0 trains on everything.
  if (!data->has_validation_ratio()) data->set_validation_ratio(0.1);
}

void FillTrainingDefaults(v1::TrainingSpec* training) {
  // What every machine computes well and no comparison has to allow for.
  if (training->precision() == v1::TrainingSpec::PRECISION_UNSPECIFIED) {
    training->set_precision(v1::TrainingSpec::PRECISION_FP32);
  }
  // A fixed one, so that the same file gives the same bits.
  if (!training->has_seed()) training->set_seed(1);
  // Often enough to see a trend, rarely enough to cost about a percent; the last step is always evaluated.
  if (!training->has_validate_every_steps()) training->set_validate_every_steps(100);
  if (!training->has_validation_samples()) training->set_validation_samples(64);
  // Checkpoints and the end have theirs anyway.
  if (!training->has_digest_every_steps()) training->set_digest_every_steps(0);
  // As large language models are trained: they see each text once.
  if (!training->has_dropout()) training->set_dropout(0);
  // What one can compare and recover to the bit.
  if (training->determinism() == v1::TrainingSpec::DETERMINISM_UNSPECIFIED) {
    training->set_determinism(v1::TrainingSpec::DETERMINISM_STRICT);
  }
}

void FillOptimizerDefaults(v1::OptimizerSpec* optimizer) {
  // The only optimizer of this version.
  if (optimizer->type() == v1::OptimizerSpec::TYPE_UNSPECIFIED) optimizer->set_type(v1::OptimizerSpec::TYPE_ADAMW);
  // These five as in PyTorch's AdamW, which is what people compare with.
  if (!optimizer->has_learning_rate()) optimizer->set_learning_rate(1e-3);
  if (!optimizer->has_beta1()) optimizer->set_beta1(0.9);
  if (!optimizer->has_beta2()) optimizer->set_beta2(0.999);
  if (!optimizer->has_epsilon()) optimizer->set_epsilon(1e-8);
  if (!optimizer->has_weight_decay()) optimizer->set_weight_decay(0.01);
  // Of GPT-2 and GPT-3: harmless when gradients are sane, and it saves the run when one isn't. 0 turns it off.
  if (!optimizer->has_grad_clip()) optimizer->set_grad_clip(1.0);

  v1::LearningRateSchedule* schedule = optimizer->mutable_schedule();
  // Of GPT-3: half a cosine down to a tenth.
  if (schedule->type() == v1::LearningRateSchedule::TYPE_UNSPECIFIED) {
    schedule->set_type(v1::LearningRateSchedule::TYPE_COSINE);
  }
  // None unless asked for: a share of the steps would change with their number.
  if (!schedule->has_warmup_steps()) schedule->set_warmup_steps(0);
  if (!schedule->has_final_ratio()) {
    schedule->set_final_ratio(schedule->type() == v1::LearningRateSchedule::TYPE_CONSTANT ? 1.0 : 0.1);
  }
}

void FillParallelDefaults(v1::ParallelSpec* parallel) {
  // What a plan chooses stays open until it has.
  if (parallel->plan() != v1::ParallelSpec::PLAN_AUTO) {
    // One worker: more are taken only when asked for.
    if (!parallel->has_data()) parallel->set_data(1);
    if (!parallel->has_tensor()) parallel->set_tensor(1);
    if (!parallel->has_pipeline()) parallel->set_pipeline(1);
    // As fast as gpipe, with fewer activations in memory.
    if (parallel->schedule() == v1::ParallelSpec::SCHEDULE_UNSPECIFIED) {
      parallel->set_schedule(v1::ParallelSpec::SCHEDULE_1F1B);
    }
  }
  // Spreads the exchange with the parameter service over the data ranks, at no cost.
  if (!parallel->zero().has_stage()) parallel->mutable_zero()->set_stage(1);
  v1::ZeroSpec* zero = parallel->mutable_zero();
  // Both are for the registered workers to decide (core/plan/plan_search.h).
  if (parallel->device() == v1::ParallelSpec::DEVICE_UNSPECIFIED) parallel->set_device(v1::ParallelSpec::DEVICE_AUTO);
  if (zero->placement() == v1::ZeroSpec::PLACEMENT_UNSPECIFIED) zero->set_placement(v1::ZeroSpec::PLACEMENT_AUTO);
  if (zero->placement() == v1::ZeroSpec::PLACEMENT_LOCAL) {
    // So that a worker's end costs a step, as with the service.
    if (zero->mirror() == v1::ZeroSpec::MIRROR_UNSPECIFIED) zero->set_mirror(v1::ZeroSpec::MIRROR_ON);
    // Enough to take the replay off the critical path; each more costs a copy of the owned gradients.
    if (zero->mirror() == v1::ZeroSpec::MIRROR_ON && !zero->has_mirror_lag()) zero->set_mirror_lag(1);
    // What a host can't update as fast as its device shouldn't be there without need.
    if (zero->offload() == v1::ZeroSpec::OFFLOAD_UNSPECIFIED) zero->set_offload(v1::ZeroSpec::OFFLOAD_NONE);
  }
}

void FillCheckpointDefaults(v1::CheckpointSpec* checkpoint) {
  // Only at the end: what is worth a checkpoint in between depends on the job's length.
  if (!checkpoint->has_every_steps()) checkpoint->set_every_steps(0);
  // The newest, and two to fall back to.
  if (!checkpoint->has_keep()) checkpoint->set_keep(3);
  // Submitting a job again goes on where it ended, which is what one wants after a failure.
  if (checkpoint->resume() == v1::CheckpointSpec::RESUME_UNSPECIFIED) {
    checkpoint->set_resume(checkpoint->resume_path().empty() ? v1::CheckpointSpec::RESUME_AUTO
                                                             : v1::CheckpointSpec::RESUME_PATH);
  }
}

}  // namespace

void FillDefaults(v1::JobSpec* spec) {
  FillModelDefaults(spec->mutable_model());
  FillDataDefaults(spec->mutable_data());
  FillTrainingDefaults(spec->mutable_training());
  FillOptimizerDefaults(spec->mutable_optimizer());
  FillParallelDefaults(spec->mutable_parallel());
  FillCheckpointDefaults(spec->mutable_checkpoint());
}

}  // namespace penstock
