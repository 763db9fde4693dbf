#include "worker/ops/cpu/host_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace penstock::cpu {
namespace {

// Below this a huge page would be mostly empty.
constexpr size_t kHugePageBytes = size_t{2} << 20;

class HostMemory : public DeviceMemory {
 public:
  HostMemory(void* data, size_t size) : data_(data), size_(size) {}
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
  ~HostMemory() override {
    if (data_ != nullptr) munmap(data_, size_);
  }

  std::byte* data() const override { return static_cast<std::byte*>(data_); }
  int64_t size() const override { return static_cast<int64_t>(size_); }

 private:
  void* const data_;
  const size_t size_;
};

}  // namespace

int64_t AvailableHostBytes() {
  std::FILE* file = std::fopen("/proc/meminfo", "re");
  if (file == nullptr) return std::numeric_limits<int64_t>::max();
  int64_t kibibytes = -1;
  char line[256];
  while (kibibytes < 0 && std::fgets(line, sizeof(line), file) != nullptr) {
    long long value = 0;
    if (std::sscanf(line, "MemAvailable: %lld kB", &value) == 1) kibibytes = value;
  }
  std::fclose(file);
  return kibibytes < 0 ? std::numeric_limits<int64_t>::max() : kibibytes * 1024;
}

absl::StatusOr<std::unique_ptr<DeviceMemory>> AllocateHostMemory(int64_t bytes) {
  if (bytes < 0) return absl::InvalidArgumentError(absl::StrCat("can't allocate ", bytes, " bytes"));
  if (bytes == 0) return std::unique_ptr<DeviceMemory>(std::make_unique<HostMemory>(nullptr, 0));
  if (const int64_t available = AvailableHostBytes(); bytes > available) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this host has ", available, " bytes of memory available, ", bytes, " are wanted"));
  }
  const size_t size = static_cast<size_t>(bytes);
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this host gives no ", bytes, " bytes of memory: ", std::strerror(errno)));
  }
  if (size >= kHugePageBytes) madvise(data, size, MADV_HUGEPAGE);  // a wish: small pages serve as well
  std::memset(data, 0, size);
  return std::unique_ptr<DeviceMemory>(std::make_unique<HostMemory>(data, size));
}

}  // namespace penstock::cpu
