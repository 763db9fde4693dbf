// Any bytes as a corpus, cut in any way: every sample that can be asked for can be read, and holds the corpus's tokens.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/base/status_macros.h"
#include "services/data/corpus.h"
#include "services/data/samples.h"

namespace {

struct Cut {
  uint64_t seed;
  uint64_t index;
  double validation_ratio;
  uint32_t seq_length;
};

void ReadSamples(const std::string& path, const Cut& cut, const uint8_t* bytes) {
  penstock::v1::DataSpec spec;
  spec.set_path(path);
  spec.set_format(penstock::v1::DataSpec::FORMAT_BYTES);
  auto corpus = penstock::OpenCorpus(spec);
  PENSTOCK_CHECK(corpus.ok());
  auto samples = penstock::Samples::Create(std::move(*corpus), cut.seed, cut.validation_ratio, cut.seq_length);
  if (!samples.ok()) return;
  std::vector<int32_t> tokens(samples->window_tokens());
  for (uint64_t index : {uint64_t{0}, cut.index, cut.index + 1, UINT64_MAX}) {
    PENSTOCK_CHECK(samples->ReadTraining(index, tokens).ok());
    const int64_t window = samples->TrainingWindow(index);
    PENSTOCK_CHECK(window >= 0 && window < samples->training_windows());
    for (size_t i = 0; i < tokens.size(); ++i) PENSTOCK_CHECK(tokens[i] == bytes[window * cut.seq_length + i]);
  }
  for (int64_t i = 0; i < samples->validation_windows(); ++i) PENSTOCK_CHECK(samples->ReadValidation(i, tokens).ok());
  PENSTOCK_CHECK(!samples->ReadValidation(samples->validation_windows(), tokens).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // The cut first, then the corpus.
  Cut cut{};
  if (size < sizeof(cut)) return 0;
  std::memcpy(&cut, data, sizeof(cut));
  // What the job's rules let through.
  if (!(cut.validation_ratio >= 0 && cut.validation_ratio < 1) || cut.seq_length == 0) return 0;
  cut.seq_length = cut.seq_length % 4096 + 1;
  const int file = memfd_create("corpus", MFD_CLOEXEC);
  PENSTOCK_CHECK(file >= 0);
  PENSTOCK_CHECK(write(file, data + sizeof(cut), size - sizeof(cut)) == static_cast<ssize_t>(size - sizeof(cut)));
  ReadSamples("/proc/self/fd/" + std::to_string(file), cut, data + sizeof(cut));
  close(file);
  return 0;
}
