// A corpus: a file read as one long row of tokens.
//
// Thread-safe: constant after Open; reads may come from any thread. Owns its file descriptor.
#ifndef PENSTOCK_SERVICES_DATA_CORPUS_H_
#define PENSTOCK_SERVICES_DATA_CORPUS_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

class Corpus {
 public:
  virtual ~Corpus() = default;

  // Tokens in it, as of Open.
  virtual int64_t size() const = 0;
  virtual const std::string& path() const = 0;
  // Tokens [begin, begin + out.size()). OUT_OF_RANGE outside the corpus; FAILED_PRECONDITION when the file isn't the
  // one that was opened any more (its size or time of change differ).
  virtual absl::Status Read(int64_t begin, std::span<int32_t> out) const = 0;
};

// Opens data.path as data.format says. NOT_FOUND, PERMISSION_DENIED, or INVALID_ARGUMENT for a folder.
absl::StatusOr<std::unique_ptr<Corpus>> OpenCorpus(const v1::DataSpec& data);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_DATA_CORPUS_H_
