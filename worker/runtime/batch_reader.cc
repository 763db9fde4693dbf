#include "worker/runtime/batch_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {

BatchReader::BatchReader(Samples samples, int64_t micro_batch_size, int64_t seq_length)
    : samples_(std::move(samples)),
      micro_batch_size_(micro_batch_size),
      seq_length_(seq_length),
      sample_(seq_length + 1),
      tokens_(micro_batch_size * seq_length),
      targets_(micro_batch_size * seq_length) {}

template <typename Read>
absl::Status BatchReader::ReadWindow(const SampleWindow& window, Read read) {
  PENSTOCK_CHECK(static_cast<int64_t>(window.size()) == micro_batch_size_);
  for (int64_t b = 0; b < micro_batch_size_; ++b) {
    const uint64_t index = window.begin + b;
    if (absl::Status status = read(index); !status.ok()) {
      return absl::Status(status.code(), absl::StrCat("sample ", index, ": ", status.message()));
    }
    std::copy_n(sample_.begin(), seq_length_, tokens_.begin() + b * seq_length_);
    std::copy_n(sample_.begin() + 1, seq_length_, targets_.begin() + b * seq_length_);
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
