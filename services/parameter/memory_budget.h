// How much memory the shard's jobs may hold together, and how much they do.
//
// Thread-safe. Outlives its reservations.
#ifndef PENSTOCK_SERVICES_PARAMETER_MEMORY_BUDGET_H_
#define PENSTOCK_SERVICES_PARAMETER_MEMORY_BUDGET_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"

namespace penstock {

// Floats on a cache line's boundary, counted in the budget until destroyed. Zero at first, and touched: the memory is
// really there, not only promised.
class FloatBuffer {
 public:
  FloatBuffer() = default;
  ~FloatBuffer();
  FloatBuffer(FloatBuffer&& other) noexcept;
  FloatBuffer& operator=(FloatBuffer&& other) noexcept;

  std::span<float> span() const { return {data_, size_}; }
  size_t size() const { return size_; }

 private:
  friend class MemoryBudget;
  float* data_ = nullptr;
  size_t size_ = 0;
  class MemoryBudget* budget_ = nullptr;
};

class MemoryBudget {
 public:
  // 0: no limit but the machine's.
  explicit MemoryBudget(uint64_t bytes_max) : bytes_max_(bytes_max) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // OK when `bytes` more would fit now; else RESOURCE_EXHAUSTED, saying what is wanted, held and allowed. For a clear
  // answer ahead of many allocations; holds nothing.
  absl::Status CheckRoom(uint64_t bytes, const std::string& what) const;
  // RESOURCE_EXHAUSTED when it doesn't fit, or the machine has no more.
  absl::StatusOr<FloatBuffer> Allocate(size_t elements, const std::string& what);

  uint64_t bytes_held() const;
  uint64_t bytes_max() const { return bytes_max_; }

 private:
  friend class FloatBuffer;
  void Release(uint64_t bytes);
  absl::Status CheckRoomLocked(uint64_t bytes, const std::string& what) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t bytes_max_;
  mutable std::mutex mutex_;
  uint64_t bytes_held_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_MEMORY_BUDGET_H_
