#include "worker/ops/cuda/testing/emulated_device.h"

#include <atomic>

#include "core/base/status_macros.h"
#include "worker/ops/cuda/cublaslt.h"
#include "worker/ops/cuda/device_operations.h"
#include "worker/ops/cuda/host_wait.h"
#include "worker/cuda/testing/emulator/faults.h"
#include "worker/cuda/testing/emulator/memory.h"
#include "worker/cuda/testing/emulator/streams.h"

namespace penstock {

std::unique_ptr<Backend> CreateEmulatedDevice(int device) {
  PENSTOCK_CHECK(cudaSetDevice(device) == cudaSuccess);
  return cuda::MakeDeviceOperations("emulated", cuda::CreateCublasLt().value()).value();
}

std::unique_ptr<Backend> CreateNextEmulatedDevice() {
  static std::atomic<int> next{0};
  return CreateEmulatedDevice(next.fetch_add(1) % cuda::emulator::kDevicesMax);
}

int EmulatedDeviceOfThread() { return cuda::emulator::CurrentDevice(); }

void FailEmulatedDevice(int device) { cuda::emulator::Fail(device, cudaErrorIllegalAddress); }

unsigned TakeTouchedDevices() { return cuda::emulator::TakeTouchedDevices(); }

void* NewEmulatedStream() {
  cudaStream_t stream = nullptr;
  PENSTOCK_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  return stream;
}

int64_t EmulatedHostWaits() { return cuda::HostWaits(); }

}  // namespace penstock
