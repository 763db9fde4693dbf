#include "core/plan/job_facts.h"

#include <cstdint>

#include "core/plan/job_rules.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

v1::JobSpec Spec() {
  v1::JobSpec spec;
  spec.mutable_training()->set_steps(10);
  spec.mutable_training()->set_global_batch_size(24);
  spec.mutable_training()->set_micro_batch_size(2);
  spec.mutable_parallel()->set_data(3);
  spec.mutable_parallel()->set_pipeline(2);
  FillDefaults(&spec);
  return spec;
}

TEST(JobFactsTest, MeshAndMicroBatches) {
  const v1::JobSpec spec = Spec();
  const Mesh mesh = *MeshOf(spec);
  EXPECT_EQ(mesh.pipeline(), 2);
  EXPECT_EQ(mesh.data(), 3);
  EXPECT_EQ(WorldSize(spec), 6);
  EXPECT_EQ(MicroBatches(spec), 4);
  EXPECT_EQ(ScheduleKindOf(spec), ScheduleKind::k1F1B);
  v1::JobSpec none;
  EXPECT_FALSE(MeshOf(none).ok());
}

TEST(JobFactsTest, MicroBatchesTileTheSampleOrder) {
  const v1::JobSpec spec = Spec();
  uint64_t next = 0;
  for (uint64_t step = 1; step <= 10; ++step) {
    EXPECT_EQ(SamplesBegin(spec, step), next);
    EXPECT_EQ(SamplesOfStep(spec, step).begin, next);
    for (int data_rank = 0; data_rank < 3; ++data_rank) {
      EXPECT_EQ(SamplesOfRank(spec, step, data_rank).begin, next);
      for (int micro_batch = 0; micro_batch < 4; ++micro_batch) {
        const SampleWindow window = SamplesOfMicroBatch(spec, step, data_rank, micro_batch);
        EXPECT_EQ(window.begin, next);
        EXPECT_EQ(window.size(), 2u);
        next = window.end;
      }
      EXPECT_EQ(SamplesOfRank(spec, step, data_rank).end, next);
    }
    EXPECT_EQ(SamplesOfStep(spec, step).end, next);
    EXPECT_EQ(SamplesConsumed(spec, step), next);
  }
  EXPECT_EQ(next, 240u);
}

TEST(JobFactsTest, ValidationSamplesAreWholeGlobalBatches) {
  v1::JobSpec spec = Spec();
  spec.mutable_training()->set_validation_samples(25);
  EXPECT_EQ(ValidationSamples(spec, 1000), 48u);
  EXPECT_EQ(ValidationSamples(spec, 48), 48u);
  EXPECT_EQ(ValidationSamples(spec, 47), 24u);
  EXPECT_EQ(ValidationSamples(spec, 23), 0u);
}

TEST(JobFactsTest, CheckpointDigestAndValidationSteps) {
  v1::JobSpec spec = Spec();
  spec.mutable_training()->set_validate_every_steps(4);
  // Without a directory there are no checkpoints; the last step has its digest all the same.
  spec.mutable_checkpoint()->set_every_steps(3);
  EXPECT_FALSE(IsCheckpointStep(spec, 3));
  EXPECT_FALSE(IsCheckpointStep(spec, 10));
  EXPECT_FALSE(IsDigestStep(spec, 3));
  EXPECT_TRUE(IsDigestStep(spec, 10));
  spec.mutable_checkpoint()->set_directory("checkpoints");
  spec.mutable_training()->set_digest_every_steps(5);
  for (uint64_t step = 0; step <= 10; ++step) {
    EXPECT_EQ(IsCheckpointStep(spec, step), step == 3 || step == 6 || step == 9 || step == 10) << step;
    EXPECT_EQ(IsDigestStep(spec, step), step == 3 || step == 5 || step == 6 || step == 9 || step == 10) << step;
    EXPECT_EQ(IsValidationStep(spec, step), step == 4 || step == 8 || step == 10) << step;
  }
  spec.mutable_data()->set_validation_ratio(0);
  EXPECT_FALSE(IsValidationStep(spec, 10));
  spec = Spec();
  spec.mutable_training()->set_validate_every_steps(0);
  EXPECT_FALSE(IsValidationStep(spec, 10));
}

}  // namespace
}  // namespace penstock
