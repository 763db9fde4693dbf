// Reads the tokens and targets of micro-batches, and notes what was read: the job's ledger is counted from that.
//
// A device may read what was given to it long after the call, so there are several buffers in memory that it copies
// from at full speed, taken in turn. Thread-safety: none; the rank's thread. Memory is allocated once. The backend
// outlives the reader.
#ifndef PENSTOCK_WORKER_RUNTIME_BATCH_READER_H_
#define PENSTOCK_WORKER_RUNTIME_BATCH_READER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/plan/job_facts.h"
#include "services/data/samples.h"
#include "worker/ops/backend.h"

namespace penstock {

class BatchReader {
 public:
  static absl::StatusOr<BatchReader> Create(Samples samples, int64_t micro_batch_size, int64_t seq_length,
                                            Backend* backend);

  // Training samples of the window, which has micro_batch_size samples.
  absl::Status ReadTraining(const SampleWindow& window);
  // Validation samples, likewise.
  absl::Status ReadValidation(const SampleWindow& window);

  // What was read last, (B, T) each. It stays until all that the device was given before the next read is done.
  std::span<const int32_t> tokens() const { return buffers_[current_].tokens; }
  std::span<const int32_t> targets() const { return buffers_[current_].targets; }

  int64_t validation_windows() const { return samples_.validation_windows(); }

 private:
  struct Buffer {
    std::unique_ptr<DeviceMemory> memory;
    std::span<int32_t> tokens;   // (B, T)
    std::span<int32_t> targets;  // (B, T)
    // When the device has read it; null: it has.
    std::shared_ptr<Fence> read;
  };

  BatchReader(Samples samples, int64_t micro_batch_size, int64_t seq_length, Backend* backend)
      : samples_(std::move(samples)),
        micro_batch_size_(micro_batch_size),
        backend_(backend),
        sample_(static_cast<size_t>(seq_length) + 1) {}

  template <typename Read>
  absl::Status ReadWindow(const SampleWindow& window, Read read);
  // The next buffer, which the device doesn't read any more.
  absl::StatusOr<Buffer*> NextBuffer();

  Samples samples_;
  int64_t micro_batch_size_;
  Backend* backend_;
  std::vector<int32_t> sample_;  // (T + 1)
  std::vector<Buffer> buffers_;
  size_t current_ = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_BATCH_READER_H_
