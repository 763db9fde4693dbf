#include "services/client/output.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::JobStatus RunningJob() {
  v1::JobStatus job;
  job.set_name("first");
  job.set_state(v1::JOB_STATE_RUNNING);
  job.set_step(50);
  job.set_steps(200);
  job.set_loss(2.5);
  job.set_tokens_per_second(1234.4);
  job.set_step_seconds(0.5);
  job.set_samples_consumed(uint64_t{1} << 40);
  job.mutable_mesh()->set_pipeline(2);
  return job;
}

TEST(OutputTest, JobJsonHasNumbersAsNumbersAndNullForWhatIsUnknown) {
  const Json json = JobJson(RunningJob());
  EXPECT_EQ(json["state"], "RUNNING");
  EXPECT_EQ(json["samples_consumed"], uint64_t{1} << 40);
  EXPECT_TRUE(json["samples_consumed"].is_number_unsigned());
  EXPECT_TRUE(json["validation_loss"].is_null());
  EXPECT_TRUE(json["digest"].is_null());
  EXPECT_EQ(json["mesh"]["pipeline"], 2);
}

TEST(OutputTest, JsonHasNoNan) {
  v1::JobStatus job = RunningJob();
  job.set_loss(std::numeric_limits<double>::quiet_NaN());
  EXPECT_TRUE(JobJson(job)["loss"].is_null());
}

TEST(OutputTest, ProgressLineTellsTimeLeftWhileRunningAndTheReasonOtherwise) {
  v1::JobStatus job = RunningJob();
  EXPECT_THAT(ProgressLine(job, 0),
              HasSubstr("[#####...............] step 50/200  loss 2.5000  1234 tokens/s  1m15s left"));
  EXPECT_LE(ProgressLine(job, 40).size(), 40u);
  job.set_state(v1::JOB_STATE_RECOVERING);
  job.set_message("waiting for 1 more worker");
  EXPECT_THAT(ProgressLine(job, 0), HasSubstr("RECOVERING: waiting for 1 more worker"));
  EXPECT_THAT(ProgressLine(job, 0), Not(HasSubstr("left")));
}

TEST(OutputTest, TableColumnsAreAsWideAsTheirWidestCell) {
  EXPECT_EQ(FormatTable({"ID", "STATE"}, {{"worker-0", "IDLE"}, {"w", "BUSY"}}),
            "ID        STATE\n"
            "worker-0  IDLE\n"
            "w         BUSY\n");
}

TEST(OutputTest, Durations) {
  EXPECT_EQ(FormatSeconds(0.4), "0s");
  EXPECT_EQ(FormatSeconds(75), "1m15s");
  EXPECT_EQ(FormatSeconds(3720), "1h02m");
  EXPECT_EQ(FormatSeconds(-1), "-");
}

}  // namespace
}  // namespace penstock
