#include "worker/cuda/testing/emulator/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace penstock::cuda::emulator {
namespace {

constexpr size_t kUnit = 4096;

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "the CUDA emulator: %s\n", what);
  std::abort();
}

std::mutex mutex;  // guards everything here

struct Pool {
  int file = -1;
  std::byte* closed = nullptr;  // at the program's addresses
  std::byte* open = nullptr;
  std::map<size_t, size_t> taken;  // offset -> bytes
  size_t end = 0;                  // of what was ever taken

  bool Map() {
    if (closed != nullptr) return true;
    file = memfd_create("emulated device", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(kDeviceBytes)) != 0) return false;
    void* const view = mmap(nullptr, kDeviceBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    void* const base = mmap(nullptr, kDeviceBytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file, 0);
    if (view == MAP_FAILED || base == MAP_FAILED) return false;
    open = static_cast<std::byte*>(view);
    closed = static_cast<std::byte*>(base);
    return true;
  }
  void Protect(int protection) const {
    if (end > 0 && mprotect(closed, end, protection) != 0) Die("mprotect failed");
  }
};

// Never destroyed: the device may run while the process ends.
Pool* const pools = new Pool[kDevicesMax];
int opened = -1;

using Uses = std::vector<std::pair<const std::byte*, const std::byte*>>;
std::map<const std::byte*, size_t>& pinned = *new std::map<const std::byte*, size_t>;
Uses& uses = *new Uses;

int Find(const std::byte* at) {
  for (int i = 0; i < kDevicesMax; ++i) {
    if (pools[i].closed != nullptr && at >= pools[i].closed && at < pools[i].closed + kDeviceBytes) return i;
  }
  return -1;
}

bool FindPinned(const std::byte* at) {
  auto next = pinned.upper_bound(at);
  if (next == pinned.begin()) return false;
  --next;
  return at < next->first + next->second;
}

bool Overlaps(const std::byte* begin, const std::byte* end) {
  return std::any_of(uses.begin(), uses.end(), [&](const auto& use) { return use.first < end && begin < use.second; });
}

}  // namespace

void* AllocateDevice(int device, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  Pool& pool = pools[device];
  if (!pool.Map()) return nullptr;
  const size_t size = (std::max<size_t>(bytes, 1) + kUnit - 1) / kUnit * kUnit;
  size_t at = 0;  // the first gap that is large enough
  for (const auto& [begin, taken] : pool.taken) {
    if (begin - at >= size) break;
    at = begin + taken;
  }
  if (size > kDeviceBytes || at > kDeviceBytes - size) return nullptr;
  pool.taken[at] = size;
  if (at + size > pool.end) {
    pool.end = at + size;
    if (opened == device) pool.Protect(PROT_READ | PROT_WRITE);
  }
  std::memset(pool.open + at, kGarbage, size);
  return pool.closed + at;
}

bool FreeDevice(void* memory) {
  const std::lock_guard<std::mutex> lock(mutex);
  const int device = Find(static_cast<std::byte*>(memory));
  if (device < 0) return false;
  Pool& pool = pools[device];
  const auto found = pool.taken.find(static_cast<size_t>(static_cast<std::byte*>(memory) - pool.closed));
  if (found == pool.taken.end()) return false;
  fallocate(pool.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(found->first),
            static_cast<off_t>(found->second));
  pool.taken.erase(found);
  return true;
}

ScopedTakenMemory::ScopedTakenMemory(int device, size_t bytes) : device_(device), begin_(kDeviceBytes - bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  pools[device_].taken[begin_] = bytes;
}

ScopedTakenMemory::~ScopedTakenMemory() {
  const std::lock_guard<std::mutex> lock(mutex);
  pools[device_].taken.erase(begin_);
}

size_t UnusedBytes(int device) {
  const std::lock_guard<std::mutex> lock(mutex);
  size_t unused = kDeviceBytes;
  for (const auto& [begin, taken] : pools[device].taken) unused -= taken;
  return unused;
}

int DeviceOf(const void* memory) {
  const std::lock_guard<std::mutex> lock(mutex);
  return Find(static_cast<const std::byte*>(memory));
}

bool IsAllocated(const void* memory, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto* const at = static_cast<const std::byte*>(memory);
  const int device = Find(at);
  if (device < 0) return false;
  const size_t offset = static_cast<size_t>(at - pools[device].closed);
  auto next = pools[device].taken.upper_bound(offset);
  if (next == pools[device].taken.begin()) return false;
  --next;
  return offset - next->first <= next->second && bytes <= next->second - (offset - next->first);
}

std::byte* Open(const void* memory) {
  const std::lock_guard<std::mutex> lock(mutex);
  auto* const at = const_cast<std::byte*>(static_cast<const std::byte*>(memory));
  const int device = Find(at);
  return device < 0 ? at : pools[device].open + (at - pools[device].closed);
}

void OpenForKernels(int device) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (device == opened) return;
  if (opened >= 0) pools[opened].Protect(PROT_NONE);
  if (device >= 0) pools[device].Protect(PROT_READ | PROT_WRITE);
  opened = device;
}

void* AllocatePinned(size_t bytes) {
  const size_t size = (std::max<size_t>(bytes, 1) + kUnit - 1) / kUnit * kUnit;
  void* const memory = std::aligned_alloc(kUnit, size);
  if (memory == nullptr) return nullptr;
  std::memset(memory, kGarbage, size);
  const std::lock_guard<std::mutex> lock(mutex);
  pinned[static_cast<std::byte*>(memory)] = size;
  return memory;
}

bool FreePinned(void* memory) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = pinned.find(static_cast<std::byte*>(memory));
    if (found == pinned.end()) return false;
    if (Overlaps(found->first, found->first + found->second)) Die("cudaFreeHost of memory that a copy still uses");
    pinned.erase(found);
  }
  std::free(memory);
  return true;
}

bool IsPinned(const void* memory) {
  const std::lock_guard<std::mutex> lock(mutex);
  return FindPinned(static_cast<const std::byte*>(memory));
}

void BeginUse(const void* memory, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto* const at = static_cast<const std::byte*>(memory);
  if (FindPinned(at)) uses.emplace_back(at, at + bytes);
}

void EndUse(const void* memory, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto* const at = static_cast<const std::byte*>(memory);
  const auto found = std::find(uses.begin(), uses.end(), std::pair(at, at + bytes));
  if (found != uses.end()) uses.erase(found);
}

bool InUse(const void* memory, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto* const at = static_cast<const std::byte*>(memory);
  return Overlaps(at, at + bytes);
}

}  // namespace penstock::cuda::emulator
