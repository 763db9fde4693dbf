#include "worker/cuda/testing/emulator/faults.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>

#include "worker/cuda/testing/emulator/memory.h"

namespace penstock::cuda::emulator {
namespace {

std::atomic<cudaError_t> faults[kDevicesMax];

}  // namespace

void Fail(int device, cudaError_t error) { faults[device] = error; }

cudaError_t FaultOf(int device) { return device < 0 ? cudaSuccess : faults[device].load(); }

cudaError_t MeetFault(int device) {
  static const char* const file = std::getenv("PENSTOCK_EMULATOR_FAULT");
  if (file != nullptr && unlink(file) == 0) Fail(device, cudaErrorIllegalAddress);
  return FaultOf(device);
}

}  // namespace penstock::cuda::emulator
