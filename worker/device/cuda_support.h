// What a worker's process needs of CUDA beside the operations. In builds without CUDA or NCCL it says that there is
// none.
#ifndef PENSTOCK_WORKER_DEVICE_CUDA_SUPPORT_H_
#define PENSTOCK_WORKER_DEVICE_CUDA_SUPPORT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "worker/comm/connector.h"
#include "worker/comm/nccl/nccl_topology.h"
#include "worker/comm/rendezvous.h"

namespace penstock {

// At the start of a process that will use a device, before other threads.
void PrepareCudaEnvironment();

// Name, memory and versions. FAILED_PRECONDITION where there is no such device.
absl::Status DescribeCudaDevice(int device, v1::DeviceInfo* info);

struct DeviceLinkOptions {
  std::shared_ptr<Rendezvous> rendezvous;
  int rank = 0;
  int size = 1;
  int device = 0;
  NcclTopology topology;
  // NCCL's own sums, in place of those in rank order.
  bool fast_sums = false;
  std::vector<std::string> names;
};

// Between devices, over NCCL; null where this build has none.
std::unique_ptr<Connector> ConnectDevices(DeviceLinkOptions options);

}  // namespace penstock

#endif  // PENSTOCK_WORKER_DEVICE_CUDA_SUPPORT_H_
