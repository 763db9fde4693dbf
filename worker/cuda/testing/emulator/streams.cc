#include "worker/cuda/testing/emulator/streams.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <utility>

#include "worker/cuda/testing/emulator/faults.h"
#include "worker/cuda/testing/emulator/scheduler.h"

namespace emulator = penstock::cuda::emulator;

namespace penstock::cuda::emulator {
namespace {

std::atomic<int> polls[kDevicesMax];  // that aren't done

}  // namespace

int CurrentDevice() { return current_device; }

unsigned TakeTouchedDevices() { return touched_devices.exchange(0); }

cudaError_t Enqueue(cudaStream_t handle, Touches touches, std::function<void()> work) {
  const Stream stream = Scheduler::Get().Find(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  Operation operation;
  operation.touches = touches;
  operation.run = [work = std::move(work)] {
    work();
    return true;
  };
  Scheduler::Get().Put(stream, std::move(operation));
  return cudaSuccess;
}

cudaError_t EnqueuePoll(cudaStream_t handle, std::function<bool()> poll) {
  const Stream stream = Scheduler::Get().Find(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  ++polls[stream->device];
  Operation operation;
  operation.run = [poll = std::move(poll), device = stream->device] {
    const bool done = poll();
    if (done) --polls[device];
    return done;
  };
  Scheduler::Get().Put(stream, std::move(operation));
  return cudaSuccess;
}

bool WaitsForOthers(int device) { return polls[device] > 0; }

void Notify() { Scheduler::Get().Notify(); }

int DeviceOfStream(cudaStream_t handle) {
  const Stream stream = Scheduler::Get().Find(handle);
  return stream == nullptr ? -1 : stream->device;
}

cudaError_t WaitForStream(cudaStream_t handle) {
  const Stream stream = Scheduler::Get().Find(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t fault = FaultOf(stream->device); fault != cudaSuccess) return fault;
  Scheduler::Get().Wait(stream);
  return cudaSuccess;
}

void WaitForDevice(int device) { Scheduler::Get().WaitForDevice(device); }

bool Coin() { return Scheduler::Get().Coin(); }

}  // namespace penstock::cuda::emulator

using emulator::Scheduler;

cudaError_t cudaGetDeviceCount(int* count) {
  if (emulator::DeviceCount() == 0) return cudaErrorNoDevice;
  *count = emulator::DeviceCount();
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= emulator::DeviceCount()) return cudaErrorInvalidDevice;
  emulator::current_device = device;
  emulator::Touch();
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = emulator::current_device;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  emulator::Touch();
  emulator::WaitForDevice();
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
  const bool beside = flags == cudaStreamNonBlocking;
  *stream = Scheduler::Get().Create(beside ? CUstream_st::Kind::kNonBlocking : CUstream_st::Kind::kBlocking).get();
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return Scheduler::Get().Destroy(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return emulator::WaitForStream(stream); }

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const auto stream = Scheduler::Get().Find(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t fault = emulator::FaultOf(stream->device); fault != cudaSuccess) return fault;
  return Scheduler::Get().Empty(stream) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  const auto stream = Scheduler::Get().Find(handle);
  if (stream == nullptr || event == nullptr) return cudaErrorInvalidResourceHandle;
  if (event->last == nullptr) return cudaSuccess;
  Operation operation;
  operation.waits_for = event->last;
  Scheduler::Get().Put(stream, std::move(operation));
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  emulator::Touch();
  if ((flags & ~(cudaEventBlockingSync | cudaEventDisableTiming)) != 0) return cudaErrorInvalidValue;
  *event = new CUevent_st{emulator::current_device, (flags & cudaEventDisableTiming) == 0, nullptr};
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  emulator::Touch();
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  const auto stream = Scheduler::Get().Find(handle);
  if (stream == nullptr || event == nullptr || event->device != stream->device) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t fault = emulator::FaultOf(stream->device); fault != cudaSuccess) return fault;
  auto record = std::make_shared<EventRecord>();
  record->stream = stream;
  Operation operation;
  operation.records = record;
  Scheduler::Get().Put(stream, std::move(operation));
  event->last = std::move(record);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  emulator::Touch();
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t fault = emulator::FaultOf(event->device); fault != cudaSuccess) return fault;
  if (event->last != nullptr) Scheduler::Get().WaitFor(event->last);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  emulator::Touch();
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t fault = emulator::FaultOf(event->device); fault != cudaSuccess) return fault;
  return event->last == nullptr || Scheduler::Get().Done(event->last) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (begin == nullptr || end == nullptr || !begin->timing || !end->timing || begin->last == nullptr ||
      end->last == nullptr) {
    return cudaErrorInvalidResourceHandle;
  }
  if (!Scheduler::Get().Done(begin->last) || !Scheduler::Get().Done(end->last)) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->last->time - begin->last->time).count();
  return cudaSuccess;
}
