#include "worker/runtime/batch_reader.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

// Micro-batches that the host may read ahead of a device.
constexpr int kBuffers = 8;

}  // namespace

absl::StatusOr<BatchReader> BatchReader::Create(Samples samples, int64_t micro_batch_size, int64_t seq_length,
                                                Backend* backend) {
  BatchReader reader(std::move(samples), micro_batch_size, seq_length, backend);
  const int64_t tokens = micro_batch_size * seq_length;
  for (int i = 0; i < (backend->host_memory() ? 1 : kBuffers); ++i) {
    Buffer& buffer = reader.buffers_.emplace_back();
    PENSTOCK_ASSIGN_OR_RETURN(buffer.memory, backend->AllocateHost(2 * tokens * static_cast<int64_t>(sizeof(int32_t))));
    auto* const at = reinterpret_cast<int32_t*>(buffer.memory->data());
    buffer.tokens = {at, static_cast<size_t>(tokens)};
    buffer.targets = {at + tokens, static_cast<size_t>(tokens)};
  }
  return reader;
}

absl::StatusOr<BatchReader::Buffer*> BatchReader::NextBuffer() {
  // All that was given to the device of the last one is in its stream by now.
  PENSTOCK_ASSIGN_OR_RETURN(buffers_[current_].read, backend_->RecordFence({}));
  current_ = (current_ + 1) % buffers_.size();
  Buffer& buffer = buffers_[current_];
  if (buffer.read != nullptr) PENSTOCK_RETURN_IF_ERROR(buffer.read->Wait());
  buffer.read = nullptr;
  return &buffer;
}

template <typename Read>
absl::Status BatchReader::ReadWindow(const SampleWindow& window, Read read) {
  PENSTOCK_CHECK(static_cast<int64_t>(window.size()) == micro_batch_size_);
  PENSTOCK_ASSIGN_OR_RETURN(Buffer* const buffer, NextBuffer());
  const int64_t seq_length = static_cast<int64_t>(sample_.size()) - 1;
  for (int64_t b = 0; b < micro_batch_size_; ++b) {
    const uint64_t index = window.begin + static_cast<uint64_t>(b);
    if (absl::Status status = read(index); !status.ok()) {
      return absl::Status(status.code(), absl::StrCat("sample ", index, ": ", status.message()));
    }
    std::copy_n(sample_.begin(), seq_length, buffer->tokens.begin() + b * seq_length);
    std::copy_n(sample_.begin() + 1, seq_length, buffer->targets.begin() + b * seq_length);
  }
  return absl::OkStatus();
}

absl::Status BatchReader::ReadTraining(const SampleWindow& window) {
  return ReadWindow(window, [this](uint64_t index) { return samples_.ReadTraining(index, sample_); });
}

absl::Status BatchReader::ReadValidation(const SampleWindow& window) {
  return ReadWindow(window, [this](uint64_t index) { return samples_.ReadValidation(index, sample_); });
}

}  // namespace penstock
