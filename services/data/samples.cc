#include "services/data/samples.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/random/permutation.h"

namespace penstock {
namespace {

// Windows of seq_length + 1 tokens with stride seq_length.
int64_t Windows(int64_t tokens, uint32_t seq_length) {
  return tokens > 0 && seq_length > 0 ? (tokens - 1) / int64_t{seq_length} : 0;
}

}  // namespace

CorpusSplit SplitCorpus(int64_t tokens, double validation_ratio, uint32_t seq_length) {
  CorpusSplit split;
  // One rounding and a floor: the same on every machine. Clamped, since a ratio that isn't a number must not get
  // through.
  const double held_out = static_cast<double>(tokens) * validation_ratio;
  split.validation_tokens = held_out > 0 ? std::min(tokens, static_cast<int64_t>(std::min(held_out, 0x1p62))) : 0;
  split.training_tokens = tokens - split.validation_tokens;
  split.training_windows = Windows(split.training_tokens, seq_length);
  split.validation_windows = Windows(split.validation_tokens, seq_length);
  return split;
}

absl::StatusOr<Samples> Samples::Open(const v1::JobSpec& spec) {
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<Corpus> corpus, OpenCorpus(spec.data()));
  return Create(std::move(corpus), spec.training().seed(), spec.data().validation_ratio(), spec.model().seq_length());
}

absl::StatusOr<Samples> Samples::Create(std::unique_ptr<Corpus> corpus, uint64_t seed, double validation_ratio,
                                        uint32_t seq_length) {
  if (seq_length == 0) return absl::InvalidArgumentError("model.seq_length is 0; a sample needs a token or more");
  const CorpusSplit split = SplitCorpus(corpus->size(), validation_ratio, seq_length);
  if (split.training_windows == 0) {
    return absl::InvalidArgumentError(absl::StrCat(corpus->path(), ": has ", split.training_tokens,
                                                   " tokens to train on; one sample of seq_length ", seq_length,
                                                   " needs ", uint64_t{seq_length} + 1));
  }
  return Samples(std::move(corpus), split, seed, seq_length);
}

int64_t Samples::TrainingWindow(uint64_t index) const {
  const auto windows = static_cast<uint64_t>(split_.training_windows);
  const Permutation order(windows, seed_, index / windows);
  return static_cast<int64_t>(order(index % windows));
}

absl::Status Samples::ReadTraining(uint64_t index, std::span<int32_t> tokens) const {
  if (tokens.size() != window_tokens()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a sample has ", window_tokens(), " tokens; the buffer has ", tokens.size()));
  }
  return corpus_->Read(TrainingWindow(index) * int64_t{seq_length_}, tokens);
}

absl::Status Samples::ReadValidation(uint64_t index, std::span<int32_t> tokens) const {
  if (tokens.size() != window_tokens()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a sample has ", window_tokens(), " tokens; the buffer has ", tokens.size()));
  }
  if (index >= static_cast<uint64_t>(split_.validation_windows)) {
    return absl::OutOfRangeError(absl::StrCat(corpus_->path(), ": has ", split_.validation_windows,
                                              " validation samples; wanted sample ", index));
  }
  return corpus_->Read(split_.training_tokens + static_cast<int64_t>(index) * int64_t{seq_length_}, tokens);
}

}  // namespace penstock
