// Enough of the CUDA runtime to run our kernels on the host, one block after the other: tests of the kernels'
// arithmetic, indices and barriers on machines without a GPU. Found before the toolkit's header by targets that ask for
// it.
//
// A block's threads are fibers of one thread of the process; __syncthreads and the shuffles switch between them.
// Threads run in another order each time, whole warps wait while others go on, and asynchronous copies land at once in
// some blocks, when they are waited for in others: a barrier or a wait that is missing mostly shows.
// Streams do nothing, as every launch runs to its end. The device's memory can't be touched but by kernels, copies and
// DeviceAccess (cuda_runtime.h): the host that reads or writes it dies of a SIGSEGV, as it would with a device.
// Launches and copies may come from several threads and run one after the other.
//
// What it can't show: races between blocks, a host that doesn't wait for the device, speed, and
// the device's own arithmetic where it isn't IEEE's (expf).
#ifndef PENSTOCK_WORKER_OPS_CUDA_TESTING_EMULATOR_CUDA_RUNTIME_API_H_
#define PENSTOCK_WORKER_OPS_CUDA_TESTING_EMULATOR_CUDA_RUNTIME_API_H_

#include <cstddef>
#include <cstdint>

#define PENSTOCK_CUDA_EMULATED 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorNotReady = 600,
};

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "an error of the emulator";
}

using cudaStream_t = struct CUstream_st*;

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  template <typename X>
  explicit dim3(X x_, unsigned y_ = 1, unsigned z_ = 1) : x(static_cast<unsigned>(x_)), y(y_), z(z_) {}
};
struct alignas(16) [[gnu::may_alias]] float4 {
  float x, y, z, w;
};

enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDefault };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMallocHost(void** memory, size_t bytes);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemset(void* to, int value, size_t bytes);
// Either side may be the device's or the host's.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t);
inline cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) { return cudaMalloc(memory, bytes); }
inline cudaError_t cudaFreeAsync(void* memory, cudaStream_t) { return cudaFree(memory); }
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  return cudaMemset(to, value, bytes);
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

// Everything is done when a call returns, so events have always happened.
using cudaEvent_t = struct CUevent_st*;
inline constexpr unsigned cudaEventBlockingSync = 1;
inline constexpr unsigned cudaEventDisableTiming = 2;
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
inline constexpr unsigned cudaStreamNonBlocking = 1;
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
template <typename Function>
cudaError_t cudaFuncSetAttribute(Function*, cudaFuncAttribute, int) {
  return cudaSuccess;
}

#endif  // PENSTOCK_WORKER_OPS_CUDA_TESTING_EMULATOR_CUDA_RUNTIME_API_H_
