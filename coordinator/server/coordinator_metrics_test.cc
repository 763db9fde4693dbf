#include "coordinator/server/coordinator_metrics.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

v1::JobStatus Job(const std::string& name, v1::JobState state) {
  v1::JobStatus status;
  status.set_id("id-" + name);
  status.set_name(name);
  status.set_state(state);
  status.set_steps(10);
  return status;
}

bool Has(const Metrics& metrics, const std::string& line) {
  return ("\n" + metrics.ExportText()).find("\n" + line) != std::string::npos;
}

TEST(CoordinatorMetricsTest, JobsAreCountedByState) {
  Metrics metrics("coordinator");
  CoordinatorMetrics coordinator(&metrics);
  EXPECT_TRUE(Has(metrics, "penstock_jobs{state=\"RUNNING\"} 0"));
  coordinator.UpdateJob(Job("a", v1::JOB_STATE_RUNNING));
  coordinator.UpdateJob(Job("b", v1::JOB_STATE_RUNNING));
  coordinator.UpdateJob(Job("b", v1::JOB_STATE_FAILED));
  EXPECT_TRUE(Has(metrics, "penstock_jobs{state=\"RUNNING\"} 1")) << metrics.ExportText();
  EXPECT_TRUE(Has(metrics, "penstock_jobs{state=\"FAILED\"} 1"));
  coordinator.ForgetJob("id-b");
  EXPECT_TRUE(Has(metrics, "penstock_jobs{state=\"FAILED\"} 0"));
}

TEST(CoordinatorMetricsTest, AJobsProgressIsItsOwn) {
  Metrics metrics("coordinator");
  CoordinatorMetrics coordinator(&metrics);
  v1::JobStatus status = Job("a", v1::JOB_STATE_RUNNING);
  coordinator.UpdateJob(status);
  v1::StepRecord record;
  record.set_tokens(128);
  record.set_step_seconds(0.5);
  coordinator.AddStep(status, record, absl::FromUnixSeconds(1700));
  coordinator.AddStep(status, record, absl::FromUnixSeconds(1701));
  status.set_step(2);
  status.set_loss(3.5);
  status.set_recoveries(1);
  coordinator.UpdateJob(status);
  coordinator.UpdateJob(status);
  EXPECT_TRUE(Has(metrics, "penstock_job_step{job=\"a\"} 2")) << metrics.ExportText();
  EXPECT_TRUE(Has(metrics, "penstock_job_loss{job=\"a\"} 3.5"));
  EXPECT_TRUE(Has(metrics, "penstock_job_tokens_total{job=\"a\"} 256"));
  EXPECT_TRUE(Has(metrics, "penstock_job_recoveries_total{job=\"a\"} 1"));
  EXPECT_TRUE(Has(metrics, "penstock_job_step_seconds_count{job=\"a\"} 2"));
  EXPECT_TRUE(Has(metrics, "penstock_job_last_step_timestamp_seconds{job=\"a\"} 1701"));
}

TEST(CoordinatorMetricsTest, SeriesOfEndedJobsAreBounded) {
  Metrics metrics("coordinator");
  CoordinatorMetrics coordinator(&metrics);
  for (size_t i = 0; i < kEndedJobSeriesMax + 3; ++i) {
    const std::string name = "job" + std::to_string(i);
    coordinator.UpdateJob(Job(name, v1::JOB_STATE_RUNNING));
    coordinator.UpdateJob(Job(name, v1::JOB_STATE_SUCCEEDED));
  }
  EXPECT_FALSE(Has(metrics, "penstock_job_step{job=\"job2\"}"));
  EXPECT_TRUE(Has(metrics, "penstock_job_step{job=\"job3\"}"));
  EXPECT_TRUE(Has(metrics, "penstock_job_steps{job=\"job3\"} 10"));
}

TEST(CoordinatorMetricsTest, MembersAreCountedByRoleAndState) {
  Metrics metrics("coordinator");
  CoordinatorMetrics coordinator(&metrics);
  v1::MemberStatus worker;
  worker.mutable_info()->set_role(v1::MEMBER_ROLE_WORKER);
  worker.set_state("BUSY");
  coordinator.UpdateMembers({worker, worker});
  EXPECT_TRUE(Has(metrics, "penstock_members{role=\"worker\",state=\"BUSY\"} 2")) << metrics.ExportText();
  coordinator.UpdateMembers({});
  EXPECT_TRUE(Has(metrics, "penstock_members{role=\"worker\",state=\"BUSY\"} 0"));
}

}  // namespace
}  // namespace penstock
