// The CUDA backend on the host: its kernels and operations by the emulator, its matrix products by an emulated
// cuBLASLt. Its memory can't be touched by the host, as a device's.
#ifndef PENSTOCK_WORKER_OPS_CUDA_TESTING_EMULATED_DEVICE_H_
#define PENSTOCK_WORKER_OPS_CUDA_TESTING_EMULATED_DEVICE_H_

#include <cstdint>
#include <memory>

#include "worker/ops/backend.h"

namespace penstock {

// Makes `device` the calling thread's. Any number of them may share one, its memory and its default stream.
std::unique_ptr<Backend> CreateEmulatedDevice(int device = 0);

// Different devices, one after the other: for ranks that are threads of one process.
std::unique_ptr<Backend> CreateNextEmulatedDevice();

// The calling thread's.
int EmulatedDeviceOfThread();

// Has the device fail as after a kernel's bad access, for the rest of the process (faults.h).
void FailEmulatedDevice(int device);

// A bit for each device that got a context since the last call (streams.h).
unsigned TakeTouchedDevices();

// A stream of the thread's device that doesn't wait for the default one, for OpContext; it is never destroyed.
void* NewEmulatedStream();

// Times that the host has waited for one of them.
int64_t EmulatedHostWaits();

}  // namespace penstock

#endif  // PENSTOCK_WORKER_OPS_CUDA_TESTING_EMULATED_DEVICE_H_
