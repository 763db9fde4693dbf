// Reads the tokens and targets of micro-batches, and notes what was read: the job's ledger is counted from that.
//
// Thread-safety: none; the rank's thread. Memory is allocated once.
#ifndef PENSTOCK_WORKER_RUNTIME_BATCH_READER_H_
#define PENSTOCK_WORKER_RUNTIME_BATCH_READER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/plan/job_facts.h"
#include "services/data/samples.h"

namespace penstock {

class BatchReader {
 public:
  BatchReader(Samples samples, int64_t micro_batch_size, int64_t seq_length);

  // Training samples of the window, which has micro_batch_size samples.
  absl::Status ReadTraining(const SampleWindow& window);
  // Validation samples, likewise.
  absl::Status ReadValidation(const SampleWindow& window);

  // What was read last, (B, T) each.
  std::span<const int32_t> tokens() const { return tokens_; }
  std::span<const int32_t> targets() const { return targets_; }

  int64_t validation_windows() const { return samples_.validation_windows(); }

 private:
  template <typename Read>
  absl::Status ReadWindow(const SampleWindow& window, Read read);

  const Samples samples_;
  const int64_t micro_batch_size_;
  const int64_t seq_length_;
  std::vector<int32_t> sample_;   // (T + 1)
  std::vector<int32_t> tokens_;   // (B, T)
  std::vector<int32_t> targets_;  // (B, T)
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_RUNTIME_BATCH_READER_H_
