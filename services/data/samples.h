// A job's samples: windows of L+1 tokens (L inputs and, shifted by one, L targets), L = seq_length, with stride L, so
// that every token but the first is a target once in a pass. The last validation_ratio of the corpus is held out: its
// windows are the validation samples, in order.
//
// Which window sample i of the job is depends on (seed, i) alone: pass i / n goes through all n windows in a
// permutation of its own. So no window is left out or repeated within a pass, and no mesh, recovery or resume changes
// the order.
//
//   PENSTOCK_ASSIGN_OR_RETURN(Samples samples, Samples::Open(spec));
//   PENSTOCK_RETURN_IF_ERROR(samples.ReadTraining(index, tokens));   // tokens: (L + 1)
//
// Thread-safe: constant after Open.
#ifndef PENSTOCK_SERVICES_DATA_SAMPLES_H_
#define PENSTOCK_SERVICES_DATA_SAMPLES_H_

#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protos/penstock/v1/job.pb.h"
#include "services/data/corpus.h"

namespace penstock {

// How a corpus of `tokens` tokens is cut.
struct CorpusSplit {
  // Tokens [0, training_tokens) are for training, the rest for validation.
  int64_t training_tokens = 0;
  int64_t validation_tokens = 0;
  // Windows in each part.
  int64_t training_windows = 0;
  int64_t validation_windows = 0;
};
CorpusSplit SplitCorpus(int64_t tokens, double validation_ratio, uint32_t seq_length);

class Samples {
 public:
  // Of a job whose defaults are filled in. INVALID_ARGUMENT when there is no window to train on.
  static absl::StatusOr<Samples> Open(const v1::JobSpec& spec);
  // Over a corpus that is open already.
  static absl::StatusOr<Samples> Create(std::unique_ptr<Corpus> corpus, uint64_t seed, double validation_ratio,
                                        uint32_t seq_length);

  // Sample `index` (from 0, without end) of the job's order into `tokens`, (L + 1).
  absl::Status ReadTraining(uint64_t index, std::span<int32_t> tokens) const;
  // Validation sample `index` < validation_windows() into `tokens`, (L + 1).
  absl::Status ReadValidation(uint64_t index, std::span<int32_t> tokens) const;

  // The window, in [0, training_windows()), that sample `index` is.
  int64_t TrainingWindow(uint64_t index) const;
  int64_t training_windows() const { return split_.training_windows; }
  int64_t validation_windows() const { return split_.validation_windows; }
  // Tokens in a window: L + 1.
  size_t window_tokens() const { return size_t{seq_length_} + 1; }

 private:
  Samples(std::unique_ptr<Corpus> corpus, CorpusSplit split, uint64_t seed, uint32_t seq_length)
      : corpus_(std::move(corpus)), split_(split), seed_(seed), seq_length_(seq_length) {}

  std::unique_ptr<Corpus> corpus_;
  CorpusSplit split_;
  uint64_t seed_;
  uint32_t seq_length_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_DATA_SAMPLES_H_
