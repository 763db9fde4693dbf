// What the tests of ranks with a device's memory share: jobs, and the same job on different devices and links.
#ifndef PENSTOCK_WORKER_RUNTIME_DEVICE_JOB_H_
#define PENSTOCK_WORKER_RUNTIME_DEVICE_JOB_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "worker/comm/connector.h"
#include "worker/ops/backend.h"
#include "worker/runtime/rank_plan.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {

struct DeviceJob {
  std::string name;
  TinyJob job;
  v1::ZeroSpec::Placement placement = v1::ZeroSpec::PLACEMENT_SERVICE;
  v1::ZeroSpec::Mirror mirror = v1::ZeroSpec::MIRROR_UNSPECIFIED;
  v1::TrainingSpec::Precision precision = v1::TrainingSpec::PRECISION_FP32;
  // Times as many of them.
  uint32_t micro_batches = 1;
  double dropout = 0;
  // Of the optimizer to the host; on the CPU it is there.
  bool offload = false;
};

inline void PrintTo(const DeviceJob& job, std::ostream* out) { *out << job.name; }

// The job's specification, filled in and checked.
v1::JobSpec SpecOf(const DeviceJob& job);

// What ranks compute with, and what connects them; empty: the CPU, and the hosts' memories.
struct Machines {
  std::function<absl::StatusOr<std::unique_ptr<Backend>>()> backend = {};
  std::function<std::unique_ptr<Connector>(const RankPlan&)> connect_devices = {};
};

struct Outcome {
  std::vector<float> weights;
  std::vector<v1::StepRecord> records;
  std::vector<double> validations;
};

// Trains to the end; a rank that fails fails the test.
Outcome Train(const DeviceJob& job, const Machines& machines);
void ExpectSameBits(const Outcome& a, const Outcome& b);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_DEVICE_JOB_H_
