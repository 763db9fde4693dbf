#include "services/parameter/memory_budget.h"

#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

constexpr size_t kAlignment = 64;

uint64_t BytesOf(size_t elements) { return (elements * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

FloatBuffer::~FloatBuffer() {
  std::free(data_);
  if (budget_ != nullptr) budget_->Release(BytesOf(size_));
}

FloatBuffer::FloatBuffer(FloatBuffer&& other) noexcept { *this = std::move(other); }

FloatBuffer& FloatBuffer::operator=(FloatBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(budget_, other.budget_);
  return *this;
}

absl::Status MemoryBudget::CheckRoomLocked(uint64_t bytes, const std::string& what) const {
  if (bytes_max_ == 0 || (bytes <= bytes_max_ && bytes_held_ <= bytes_max_ - bytes)) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(what, " needs ", bytes, " bytes; this shard holds ", bytes_held_,
                                                   " and may hold ", bytes_max_,
                                                   " (--memory_bytes_max): raise it, or add shards"));
}

absl::Status MemoryBudget::CheckRoom(uint64_t bytes, const std::string& what) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return CheckRoomLocked(bytes, what);
}

absl::StatusOr<FloatBuffer> MemoryBudget::Allocate(size_t elements, const std::string& what) {
  FloatBuffer buffer;
  if (elements == 0) return buffer;
  const uint64_t bytes = BytesOf(elements);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    PENSTOCK_RETURN_IF_ERROR(CheckRoomLocked(bytes, what));
    bytes_held_ += bytes;
  }
  void* data = std::aligned_alloc(kAlignment, bytes);
  if (data == nullptr) {
    Release(bytes);
    return absl::ResourceExhaustedError(absl::StrCat(what, " needs ", bytes, " bytes; the machine has no more"));
  }
  std::memset(data, 0, bytes);
  buffer.data_ = static_cast<float*>(data);
  buffer.size_ = elements;
  buffer.budget_ = this;
  return buffer;
}

void MemoryBudget::Release(uint64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  bytes_held_ -= bytes;
}

uint64_t MemoryBudget::bytes_held() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return bytes_held_;
}

}  // namespace penstock
