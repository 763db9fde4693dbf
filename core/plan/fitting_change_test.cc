#include "core/plan/fitting_change.h"

#include "core/plan/job_rules.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

v1::JobSpec Job() {
  v1::JobSpec spec;
  spec.set_name("job");
  spec.mutable_data()->set_path("corpus.txt");
  spec.mutable_data()->set_format(v1::DataSpec::FORMAT_BYTES);
  v1::ModelSpec* const model = spec.mutable_model();
  model->set_family(v1::ModelSpec::FAMILY_GPT2);
  model->set_layers(6);
  model->set_hidden(128);
  model->set_heads(4);
  model->set_seq_length(128);
  model->set_vocab_size(256);
  spec.mutable_training()->set_steps(10);
  spec.mutable_training()->set_global_batch_size(64);
  spec.mutable_training()->set_micro_batch_size(16);
  FillDefaults(&spec);
  return spec;
}

TEST(FittingChangeTest, NamesTheSmallestThatIsEnough) {
  const v1::JobSpec spec = Job();
  ASSERT_TRUE(CheckJob(spec).empty());
  const std::string roomy = SmallestFittingChange(spec, int64_t{1} << 40, 0).value_or("");
  EXPECT_TRUE(roomy.starts_with("training.micro_batch_size: 8 would fit (")) << roomy;
  // Less and less memory asks for more and more, and in the end nothing helps.
  std::string before = roomy;
  int changes = 0;
  for (int64_t available = 256 << 20; available > 1 << 20; available -= 1 << 20) {
    const std::string change = SmallestFittingChange(spec, available, 0).value_or("nothing");
    if (change == before) continue;
    before = change;
    ++changes;
  }
  EXPECT_GE(changes, 4) << before;
  EXPECT_EQ(before, "nothing");
}

TEST(FittingChangeTest, StartsWithWhatLeavesTheBatchAlone) {
  v1::JobSpec spec = Job();
  spec.mutable_parallel()->set_pipeline(2);
  spec.mutable_parallel()->set_schedule(v1::ParallelSpec::SCHEDULE_GPIPE);
  FillDefaults(&spec);
  ASSERT_TRUE(CheckJob(spec).empty());
  const std::string change = SmallestFittingChange(spec, int64_t{1} << 40, 0).value_or("");
  EXPECT_TRUE(change.starts_with("parallel.schedule: 1f1b would fit (")) << change;
  // What the libraries take counts, too.
  EXPECT_FALSE(SmallestFittingChange(spec, int64_t{1} << 30, int64_t{1} << 30).has_value());
}

TEST(FittingChangeTest, AHostTakesWhatAGpuCant) {
  v1::JobSpec spec = Job();
  spec.mutable_training()->set_micro_batch_size(1);
  spec.mutable_parallel()->set_device(v1::ParallelSpec::DEVICE_CUDA);
  spec.mutable_parallel()->mutable_zero()->set_placement(v1::ZeroSpec::PLACEMENT_LOCAL);
  FillDefaults(&spec);
  ASSERT_TRUE(CheckJob(spec).empty());
  const int64_t here = (*MemoryOfJob(spec))[0].total();
  // Of 1.2 million parameters the device has weights, gradients and two moments, of 4 bytes each.
  const std::string moments = SmallestFittingChange(spec, here - 1, 0).value_or("");
  EXPECT_TRUE(moments.starts_with("parallel.zero.offload: host would fit (")) << moments;
  const std::string gradients = SmallestFittingChange(spec, here - 12'000'000, 0).value_or("");
  EXPECT_TRUE(gradients.starts_with("parallel.zero.offload: host with parallel.zero.stage: 2 would fit ("))
      << gradients;
}

}  // namespace
}  // namespace penstock
