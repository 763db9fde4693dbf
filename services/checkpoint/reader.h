// Reading a checkpoint: every byte is checked against its piece's digest before it is used.
//
//   PENSTOCK_ASSIGN_OR_RETURN(auto reader, CheckpointReader::Open(LocalDisk(), folder));
//   PENSTOCK_RETURN_IF_ERROR(reader->ReadRange(StateClass::kWeights, range, weights));
//
// Thread-safe: constant after Open. Doesn't own the Blobs.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_READER_H_
#define PENSTOCK_SERVICES_CHECKPOINT_READER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/layout/range.h"
#include "core/model/parameter_table.h"
#include "services/checkpoint/layout.h"
#include "services/checkpoint/manifest.h"
#include "services/storage/blobs.h"

namespace penstock {

// The manifest of a checkpoint whose files are there at their sizes; their bytes aren't read. Errors as of
// CheckpointReader::Open.
absl::StatusOr<Manifest> ReadManifest(Blobs& blobs, const std::string& path);

class CheckpointReader {
 public:
  // Reads the manifest and checks files, sizes and headers against it and against its model's table. NOT_FOUND: no such
  // folder, or one without a manifest (never completed). DATA_LOSS: damaged, naming the file.
  static absl::StatusOr<std::unique_ptr<CheckpointReader>> Open(Blobs& blobs, const std::string& path);

  const std::string& path() const { return path_; }
  const Manifest& manifest() const { return manifest_; }
  const ParameterTable& table() const { return table_; }

  // Elements [range.begin, range.end) of a class into `out`, of the range's length. Any range will do; whole pieces are
  // read without a copy. DATA_LOSS naming file and piece when a digest doesn't match: `out` must not be used then.
  absl::Status ReadRange(StateClass state_class, ElementRange range, std::span<float> out) const;

 private:
  CheckpointReader(Blobs& blobs, std::string path, Manifest manifest, ParameterTable table, CheckpointLayout layout);
  absl::Status ReadPiece(StateClass state_class, int64_t piece, std::span<float> out) const;

  Blobs& blobs_;
  const std::string path_;
  const Manifest manifest_;
  const ParameterTable table_;
  const CheckpointLayout layout_;
};

// Reads the whole checkpoint and checks every piece and the job's digest. `progress` (may be null) is called now and
// then, on this thread; returning false ends with CANCELLED. Returns the manifest.
using VerifyProgress = std::function<bool(uint64_t bytes_done, uint64_t bytes_total)>;
absl::StatusOr<Manifest> VerifyCheckpoint(Blobs& blobs, const std::string& path, const VerifyProgress& progress);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_READER_H_
