#include "worker/runtime/device_job.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/plan/job_rules.h"

namespace penstock {

v1::JobSpec SpecOf(const DeviceJob& job) {
  v1::JobSpec spec = MakeTinyJob(job.job);
  spec.mutable_parallel()->mutable_zero()->set_placement(job.placement);
  spec.mutable_parallel()->mutable_zero()->set_mirror(job.mirror);
  spec.mutable_training()->set_precision(job.precision);
  spec.mutable_training()->set_global_batch_size(spec.training().global_batch_size() * job.micro_batches);
  spec.mutable_training()->set_dropout(job.dropout);
  if (job.offload) spec.mutable_parallel()->mutable_zero()->set_offload(v1::ZeroSpec::OFFLOAD_HOST);
  FillDefaults(&spec);
  for (const v1::JobViolation& violation : CheckJob(spec)) {
    ADD_FAILURE() << violation.field() << ": " << violation.message();
  }
  return spec;
}

Outcome Train(const DeviceJob& job, const Machines& machines) {
  v1::JobSpec spec = SpecOf(job);
  if (machines.backend) spec.mutable_parallel()->set_device(v1::ParallelSpec::DEVICE_CUDA);
  auto service = FakeStateService::Create(spec, 2);
  ReportLog log;
  TestEpoch::Options options{.spec = spec, .service = service, .log = &log};
  options.backend = machines.backend;
  options.connect_devices = machines.connect_devices;
  TestEpoch epoch(options);
  EXPECT_TRUE(epoch.WaitFinished());
  EXPECT_TRUE(epoch.WaitIdle());
  epoch.StopAll();
  Outcome outcome;
  outcome.weights = service->weights();
  for (const v1::MemberReport& report : log.All()) {
    EXPECT_FALSE(report.has_failed()) << report.DebugString();
    if (report.has_step()) outcome.records.push_back(report.step());
    if (report.has_validation()) outcome.validations.push_back(report.validation().loss());
  }
  EXPECT_EQ(service->clients_alive(), 0);
  return outcome;
}

void ExpectSameBits(const Outcome& a, const Outcome& b) {
  ASSERT_EQ(a.records.size(), b.records.size());
  for (size_t i = 0; i < a.records.size(); ++i) EXPECT_EQ(a.records[i].loss(), b.records[i].loss()) << i;
  EXPECT_EQ(a.validations, b.validations);
  ASSERT_EQ(a.weights.size(), b.weights.size());
  EXPECT_EQ(std::memcmp(a.weights.data(), b.weights.data(), a.weights.size() * sizeof(float)), 0);
}

}  // namespace penstock
