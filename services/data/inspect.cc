#include "services/data/inspect.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"
#include "services/data/corpus.h"

namespace penstock {
namespace {

constexpr int64_t kTokensPerRead = 1 << 20;

void Add(CorpusInspection* inspection, const std::string& field, const std::string& message) {
  v1::JobViolation& violation = inspection->violations.emplace_back();
  violation.set_field(field);
  violation.set_message(message);
}

// Reads it all, for the largest token.
absl::Status Scan(const Corpus& corpus, CorpusFacts* facts) {
  std::vector<int32_t> tokens;
  facts->largest_token = -1;
  for (int64_t at = 0; at < corpus.size(); at += kTokensPerRead) {
    tokens.resize(static_cast<size_t>(std::min(kTokensPerRead, corpus.size() - at)));
    if (const absl::Status status = corpus.Read(at, tokens); !status.ok()) return status;
    const auto largest = std::max_element(tokens.begin(), tokens.end());
    if (*largest <= facts->largest_token) continue;
    facts->largest_token = *largest;
    facts->largest_token_at = at + (largest - tokens.begin());
  }
  return absl::OkStatus();
}

// Whether validation is as the defaults have it: then nobody has asked for it, and a corpus that is too short for it is
// trained on without.
bool IsDefaultValidation(const v1::JobSpec& spec) {
  v1::JobSpec plain;
  FillDefaults(&plain);
  return spec.data().validation_ratio() == plain.data().validation_ratio() &&
         spec.training().validate_every_steps() == plain.training().validate_every_steps() &&
         spec.training().validation_samples() == plain.training().validation_samples();
}

void CheckLengths(const v1::JobSpec& spec, CorpusInspection* inspection) {
  const CorpusFacts& facts = inspection->facts;
  const uint32_t seq_length = spec.model().seq_length();
  const int64_t window = int64_t{seq_length} + 1;
  if (facts.split.training_windows == 0) {
    Add(inspection, facts.tokens < window ? "data.path" : "data.validation_ratio",
        absl::StrCat(spec.data().path(), " has ", facts.tokens, " tokens, of which ", facts.split.training_tokens,
                     " are for training: less than one sample, which takes seq_length + 1 = ", window,
                     "; use a longer corpus, a smaller validation_ratio or a smaller model.seq_length"));
    return;
  }
  if (spec.training().validate_every_steps() == 0) return;
  const auto windows = static_cast<uint64_t>(facts.split.validation_windows);
  if (ValidationSamples(spec, windows) > 0) return;
  if (IsDefaultValidation(spec)) {
    inspection->notes.push_back(absl::StrFormat(
        "validation is skipped: %s is too short for it (%d held-out samples, less than one global batch of %d)",
        spec.data().path(), windows, spec.training().global_batch_size()));
    return;
  }
  const uint64_t tokens_wanted = uint64_t{spec.training().global_batch_size()} * seq_length + 1;
  Add(inspection, "data.validation_ratio",
      absl::StrFormat("holds out %d of the %d tokens of %s: %d samples, less than one global batch of %d; use at least "
                      "%.4g, a longer corpus, or training.validate_every_steps: 0",
                      facts.split.validation_tokens, facts.tokens, spec.data().path(), windows,
                      spec.training().global_batch_size(),
                      static_cast<double>(tokens_wanted + 1) / static_cast<double>(facts.tokens)));
}

// A byte as people know it: its number, and itself where it can be shown.
std::string ShownByte(int32_t token) {
  return token >= 0x20 && token < 0x7f ? absl::StrFormat("%d ('%c')", token, token) : absl::StrCat(token);
}

void CheckVocabulary(const v1::JobSpec& spec, CorpusInspection* inspection) {
  const CorpusFacts& facts = inspection->facts;
  if (facts.largest_token < 0 || static_cast<uint32_t>(facts.largest_token) < spec.model().vocab_size()) return;
  Add(inspection, "model.vocab_size",
      absl::StrCat("is ", spec.model().vocab_size(), ", but ", spec.data().path(), " has the byte ",
                   ShownByte(facts.largest_token), " at offset ", facts.largest_token_at, "; use at least ",
                   facts.largest_token + 1, ", or 256 for any bytes"));
}

}  // namespace

CorpusInspection InspectCorpus(const v1::JobSpec& spec) {
  CorpusInspection inspection;
  const absl::StatusOr<std::unique_ptr<Corpus>> corpus = OpenCorpus(spec.data());
  if (!corpus.ok()) {
    Add(&inspection, "data.path",
        absl::StrCat(std::string(corpus.status().message()), "; name a file that every worker can read"));
    return inspection;
  }
  CorpusFacts& facts = inspection.facts;
  facts.tokens = (*corpus)->size();
  facts.bytes = facts.tokens;
  if (facts.tokens == 0) {
    Add(&inspection, "data.path", absl::StrCat(spec.data().path(), " is empty; a corpus needs text"));
    return inspection;
  }
  facts.split = SplitCorpus(facts.tokens, spec.data().validation_ratio(), spec.model().seq_length());
  if (const absl::Status status = Scan(**corpus, &facts); !status.ok()) {
    Add(&inspection, "data.path", std::string(status.message()));
    return inspection;
  }
  CheckLengths(spec, &inspection);
  CheckVocabulary(spec, &inspection);
  if (!inspection.violations.empty()) inspection.notes.clear();
  return inspection;
}

}  // namespace penstock
