// The emulated devices' memory, and the pinned memory of the host.
//
// A device's memory is a file in memory that is mapped twice: at the addresses that the program has, where it is closed
// (mprotect) but while kernels run, and once more, always open, for the emulator's own copies. So a host that touches
// it dies of a SIGSEGV, as it would with a device, unless a kernel of another thread happens to run at that moment.
// New memory is full of garbage. Thread-safe.
#ifndef PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_MEMORY_H_
#define PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_MEMORY_H_

#include <cstddef>
#include <cstdint>

namespace penstock::cuda::emulator {

inline constexpr int kDevicesMax = 8;
inline constexpr size_t kDeviceBytes = size_t{16} << 30;
// Bytes of new memory, and of what a copy will overwrite later: NaN in every type of floating point, or large numbers.
inline constexpr int kGarbage = 0xff;
inline constexpr int kOtherGarbage = 0x5a;

// Null where the device hasn't got that much in one piece.
void* AllocateDevice(int device, size_t bytes);
// False where `memory` isn't the beginning of an allocation.
bool FreeDevice(void* memory);

// While one lives, the last bytes of a device are taken: for tests of what doesn't fit.
class ScopedTakenMemory {
 public:
  ScopedTakenMemory(int device, size_t bytes);
  ~ScopedTakenMemory();
  ScopedTakenMemory(const ScopedTakenMemory&) = delete;
  ScopedTakenMemory& operator=(const ScopedTakenMemory&) = delete;

 private:
  const int device_;
  const size_t begin_;
};

size_t UnusedBytes(int device);

// -1 for memory of the host.
int DeviceOf(const void* memory);
// Whether all of it is in one allocation of the device that it belongs to.
bool IsAllocated(const void* memory, size_t bytes);
// Where the emulator reads and writes what the program calls `memory`. The same address for memory of the host.
std::byte* Open(const void* memory);

// Makes a device's memory accessible to kernels, closing another one's; -1 closes all. Of the device's thread.
void OpenForKernels(int device);

void* AllocatePinned(size_t bytes);
// False where it isn't the beginning of an allocation. Aborts, with a message, if a copy still uses the memory.
bool FreePinned(void* memory);
bool IsPinned(const void* memory);

// Pinned memory that copies on their way use. Nothing for other memory.
void BeginUse(const void* memory, size_t bytes);
void EndUse(const void* memory, size_t bytes);
bool InUse(const void* memory, size_t bytes);

}  // namespace penstock::cuda::emulator

#endif  // PENSTOCK_WORKER_CUDA_TESTING_EMULATOR_MEMORY_H_
