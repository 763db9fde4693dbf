// The CPU backend's memory: whole pages from the operating system, huge ones where it has them.
#ifndef PENSTOCK_WORKER_OPS_CPU_HOST_MEMORY_H_
#define PENSTOCK_WORKER_OPS_CPU_HOST_MEMORY_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/ops/backend.h"

namespace penstock::cpu {

// Zeroed and touched, so that no step pays page faults. RESOURCE_EXHAUSTED, before anything is taken, for more than the
// host has available: asking for it would bring the out-of-memory killer, to us or to a neighbour.
absl::StatusOr<std::unique_ptr<DeviceMemory>> AllocateHostMemory(int64_t bytes);

// What can be taken without swapping, by the kernel's own estimate; no limit where it doesn't say.
int64_t AvailableHostBytes();

}  // namespace penstock::cpu

#endif  // PENSTOCK_WORKER_OPS_CPU_HOST_MEMORY_H_
