// The CUDA runtime's functions for memory, copies and launches, on the streams of streams.h.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "worker/cuda/testing/emulator/faults.h"
#include "worker/cuda/testing/emulator/memory.h"
#include "worker/cuda/testing/emulator/streams.h"

namespace emulator = penstock::cuda::emulator;

namespace {

// A real device may reach another one's memory, or not; ours never does.
bool OnDevice(const void* memory, size_t bytes, int device) {
  return emulator::DeviceOf(memory) == device && emulator::IsAllocated(memory, bytes);
}

bool Matches(cudaMemcpyKind kind, bool from_device, bool to_device) {
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !from_device && !to_device;
    case cudaMemcpyHostToDevice:
      return !from_device && to_device;
    case cudaMemcpyDeviceToHost:
      return from_device && !to_device;
    case cudaMemcpyDeviceToDevice:
      return from_device && to_device;
    case cudaMemcpyDefault:
      return true;
  }
  return false;
}

// An allocation may wait for all that the device has.
void MeetTheDevice() {
  if (emulator::WaitsForOthers(emulator::CurrentDevice())) {
    std::fprintf(stderr, "the CUDA emulator: an allocation while the device waits for others: that can be for ever\n");
    std::abort();
  }
  if (emulator::Coin()) emulator::WaitForDevice();
}

// The copy of memory that nobody may touch before it is done.
cudaError_t CopyLater(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  emulator::BeginUse(from, bytes);
  emulator::BeginUse(to, bytes);
  return emulator::Enqueue(stream, emulator::Touches::kNothing, [=] {
    std::memcpy(emulator::Open(to), emulator::Open(from), bytes);
    emulator::EndUse(from, bytes);
    emulator::EndUse(to, bytes);
  });
}

cudaError_t Copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream, bool waits) {
  const int device = emulator::DeviceOfStream(stream);
  if (device < 0) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t fault = emulator::FaultOf(device); fault != cudaSuccess) return fault;
  if (bytes == 0) return cudaSuccess;
  const bool from_device = emulator::DeviceOf(from) >= 0;
  const bool to_device = emulator::DeviceOf(to) >= 0;
  if (!Matches(kind, from_device, to_device)) return cudaErrorInvalidMemcpyDirection;
  if ((from_device && !OnDevice(from, bytes, device)) || (to_device && !OnDevice(to, bytes, device))) {
    return cudaErrorInvalidValue;
  }
  if (!from_device && to_device && !emulator::IsPinned(from)) {
    // Staged: the caller may change it as soon as this returns.
    const auto* const begin = static_cast<const std::byte*>(from);
    auto staged = std::make_shared<std::vector<std::byte>>(begin, begin + bytes);
    return emulator::Enqueue(stream, emulator::Touches::kNothing,
                             [=] { std::memcpy(emulator::Open(to), staged->data(), bytes); });
  }
  // What the host sees until the copy is done, unless an earlier one still brings or reads something there.
  if (from_device && !to_device && !emulator::InUse(to, bytes)) {
    std::memset(to, emulator::Coin() ? emulator::kGarbage : emulator::kOtherGarbage, bytes);
  }
  const cudaError_t error = CopyLater(to, from, bytes, stream);
  if (error != cudaSuccess) return error;
  const bool pageable = from_device && !to_device && !emulator::IsPinned(to);
  const bool host = !from_device && !to_device;
  const bool returns_late = host || (waits && !(from_device && to_device)) || (pageable && emulator::Coin());
  return returns_late ? emulator::WaitForStream(stream) : cudaSuccess;
}

}  // namespace

namespace penstock::cuda::emulator {

cudaError_t Run(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, std::function<void()> body) {
  if (const cudaError_t fault = MeetFault(DeviceOfStream(stream)); fault != cudaSuccess) return fault;
  if (!CanRun(grid, block)) return cudaErrorInvalidConfiguration;
  return Enqueue(stream, Touches::kDevice, [=, body = std::move(body)] { RunGrid(grid, block, shared_bytes, body); });
}

}  // namespace penstock::cuda::emulator

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    default:
      return "another error of the emulator";
  }
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) return error;
  if (device < 0 || device >= count) return cudaErrorInvalidDevice;
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "Emulated");
  properties->uuid.bytes[15] = static_cast<char>(device);
  properties->major = 9;
  properties->minor = 0;
  properties->multiProcessorCount = 1;
  properties->sharedMemPerBlockOptin = 227 << 10;
  properties->totalGlobalMem = emulator::kDeviceBytes;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  return std::snprintf(id, static_cast<size_t>(length), "0000:%02X:00.0", 0xa0 + device) < length
             ? cudaSuccess
             : cudaErrorInvalidValue;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = emulator::UnusedBytes(emulator::CurrentDevice());
  *total = emulator::kDeviceBytes;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  if (const cudaError_t fault = emulator::FaultOf(emulator::CurrentDevice()); fault != cudaSuccess) return fault;
  MeetTheDevice();
  *memory = bytes == 0 ? nullptr : emulator::AllocateDevice(emulator::CurrentDevice(), bytes);
  return bytes > 0 && *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  const int device = memory == nullptr ? emulator::CurrentDevice() : emulator::DeviceOf(memory);
  if (const cudaError_t fault = emulator::FaultOf(device); fault != cudaSuccess) return fault;
  if (memory == nullptr) return cudaSuccess;
  if (device < 0) return cudaErrorInvalidValue;
  emulator::WaitForDevice(device);
  return emulator::FreeDevice(memory) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  if (const cudaError_t fault = emulator::FaultOf(emulator::CurrentDevice()); fault != cudaSuccess) return fault;
  MeetTheDevice();
  *memory = emulator::AllocatePinned(bytes);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) {
  if (const cudaError_t fault = emulator::FaultOf(emulator::CurrentDevice()); fault != cudaSuccess) return fault;
  return memory == nullptr || emulator::FreePinned(memory) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const int device = emulator::DeviceOfStream(stream);
  if (device < 0) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t fault = emulator::FaultOf(device); fault != cudaSuccess) return fault;
  if (bytes == 0) return cudaSuccess;
  if (!OnDevice(to, bytes, device)) return cudaErrorInvalidValue;
  return emulator::Enqueue(stream, emulator::Touches::kNothing, [=] { std::memset(emulator::Open(to), value, bytes); });
}

// Of device memory: the host doesn't wait.
cudaError_t cudaMemset(void* to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return Copy(to, from, bytes, kind, stream, /*waits=*/false);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return Copy(to, from, bytes, kind, nullptr, /*waits=*/true);
}
