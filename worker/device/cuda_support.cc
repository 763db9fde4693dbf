#include "worker/device/cuda_support.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/cuda/device.h"
#if defined(PENSTOCK_HAS_NCCL)
#include "worker/comm/nccl/nccl_communicator.h"
#endif

namespace penstock {
namespace {

// 13020 is 13.2.
std::string CudaVersion(int number) { return absl::StrCat(number / 1000, ".", number % 1000 / 10); }

}  // namespace

void PrepareCudaEnvironment() { cuda::PrepareEnvironment(); }

absl::Status DescribeCudaDevice(int device, v1::DeviceInfo* info) {
  PENSTOCK_ASSIGN_OR_RETURN(const cuda::DeviceFacts facts, cuda::QueryDevice(device));
  info->set_name(facts.name);
  info->set_pci_bus_id(facts.pci_bus_id);
  info->set_uuid(facts.uuid);
  info->set_memory_bytes(static_cast<uint64_t>(facts.memory_bytes));
  info->set_driver(CudaVersion(facts.driver_version));
  info->set_cuda(CudaVersion(facts.runtime_version));
#if defined(PENSTOCK_HAS_NCCL)
  // Without it messages are copied through the host.
  if (const absl::StatusOr<std::string> nccl = NcclVersion(); nccl.ok()) {
    info->set_nccl(*nccl);
  } else {
    info->add_remarks(absl::StrCat("no NCCL: ", nccl.status().message()));
  }
#else
  info->add_remarks("no NCCL: this worker was built without it");
#endif
  if (facts.driver_version < facts.runtime_version) {
    info->add_remarks(absl::StrCat("the driver is for CUDA ", info->driver(), ", this worker for ", info->cuda(),
                                   ": it may be refused"));
  }
  return absl::OkStatus();
}

std::unique_ptr<Connector> ConnectDevices(DeviceLinkOptions options) {
#if defined(PENSTOCK_HAS_NCCL)
  NcclConnectorOptions nccl;
  nccl.rendezvous = std::move(options.rendezvous);
  nccl.rank = options.rank;
  nccl.size = options.size;
  nccl.device = options.device;
  nccl.topology = std::move(options.topology);
  nccl.fast_sums = options.fast_sums;
  nccl.names = std::move(options.names);
  return MakeNcclConnector(std::move(nccl));
#else
  return nullptr;
#endif
}

}  // namespace penstock
