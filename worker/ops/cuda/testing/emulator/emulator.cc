// The device's memory, and the runtime's functions for the host.
#include <cuda_runtime.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace penstock::cuda::emulator {
namespace {

// The device's memory: a part of the address space that is closed whenever the device doesn't run.
class Memory {
 public:
  static constexpr size_t kBytes = size_t{4} << 30;
  static constexpr size_t kUnit = 4096;

  // Guards everything here and the threads of a launch. A copy may be part of an access.
  std::recursive_mutex mutex;

  void* Allocate(size_t bytes) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    if (base_ == nullptr) {
      void* const base = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (base == MAP_FAILED) return nullptr;
      base_ = static_cast<std::byte*>(base);
    }
    const size_t size = (bytes + kUnit - 1) / kUnit * kUnit;
    size_t at = 0;  // the first gap that is large enough
    for (const auto& [begin, taken] : taken_) {
      if (begin - at >= size) break;
      at = begin + taken;
    }
    if (at + size > kBytes) return nullptr;
    taken_[at] = size;
    end_ = std::max(end_, at + size);
    return base_ + at;
  }

  bool Free(void* memory) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    return memory == nullptr || taken_.erase(static_cast<size_t>(static_cast<std::byte*>(memory) - base_)) > 0;
  }

  size_t Unused() {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    size_t unused = kBytes;
    for (const auto& [begin, taken] : taken_) unused -= taken;
    return unused;
  }

  // Of the thread that holds the mutex.
  void Open() {
    if (depth_++ == 0) Protect(PROT_READ | PROT_WRITE);
  }
  void Close() {
    if (--depth_ == 0) Protect(PROT_NONE);
  }

 private:
  void Protect(int protection) {
    if (end_ > 0 && mprotect(base_, end_, protection) != 0) std::abort();
  }

  std::byte* base_ = nullptr;
  size_t end_ = 0;  // of what was ever taken
  std::map<size_t, size_t> taken_;
  int depth_ = 0;
};

Memory& TheMemory() {
  static Memory* const memory = new Memory;
  return *memory;
}

}  // namespace

DeviceAccess::DeviceAccess() {
  TheMemory().mutex.lock();
  TheMemory().Open();
}
DeviceAccess::~DeviceAccess() {
  TheMemory().Close();
  TheMemory().mutex.unlock();
}

cudaError_t Run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body) {
  if (!CanRun(grid, block)) return cudaErrorInvalidValue;
  const DeviceAccess access;
  RunGrid(grid, block, shared_bytes, body);
  return cudaSuccess;
}

}  // namespace penstock::cuda::emulator

using penstock::cuda::emulator::DeviceAccess;
using penstock::cuda::emulator::TheMemory;

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = TheMemory().Unused();
  *total = *free;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = TheMemory().Allocate(bytes);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFree(void* memory) { return TheMemory().Free(memory) ? cudaSuccess : cudaErrorInvalidValue; }

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  *memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  const DeviceAccess access;
  std::memset(to, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  const DeviceAccess access;
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
