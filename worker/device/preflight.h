// What a worker tells of its device before it takes a job: what it is, the libraries' versions, and how fast it and the
// ways to it are, measured in a second or two through the same Backend that jobs run on.
//
// Thread-safe; allocates up to some hundred MB on the device and frees them.
#ifndef PENSTOCK_WORKER_DEVICE_PREFLIGHT_H_
#define PENSTOCK_WORKER_DEVICE_PREFLIGHT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "worker/device/compute_device.h"

namespace penstock {

struct PreflightOptions {
  ComputeDevice device;
  // This machine as its peers reach it.
  std::string host;
  // For all measurements together, about; nothing is measured where it is 0.
  absl::Duration budget = absl::Milliseconds(1500);
};

// FAILED_PRECONDITION, with the reason, where the device can't be used.
absl::StatusOr<v1::DeviceInfo> RunPreflight(const PreflightOptions& options);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_DEVICE_PREFLIGHT_H_
