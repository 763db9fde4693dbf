// Writing a checkpoint, by many hands:
//
//   coordinator: PrepareCheckpoint(blobs, "DIR/JOB", step, table)      makes DIR/JOB/step-00000100.partial
//   each shard:  CheckpointWriter::Open(blobs, partial, table), WriteRange(class, begin, span)..., Sync()
//   coordinator: FinishCheckpoint(blobs, partial, manifest)            manifest.json, then the rename
//                ApplyRetention(blobs, "DIR/JOB", keep, step)          (catalog.h)
//
// Until the rename the folder is nobody's checkpoint, so whatever fails in between (RESOURCE_EXHAUSTED: the disk is
// full) leaves the earlier ones as they were. AbandonCheckpoint takes the folder away; one that a dead run left behind
// goes when the same step is prepared again.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_WRITER_H_
#define PENSTOCK_SERVICES_CHECKPOINT_WRITER_H_

#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/model/parameter_table.h"
#include "services/checkpoint/layout.h"
#include "services/checkpoint/manifest.h"
#include "services/storage/blobs.h"

namespace penstock {

// "step-00000100", and "step-00000100.partial" while it is written.
std::string CheckpointFolderName(uint64_t step);

// Makes the files of step `step` at their full size with their headers, on disk, in a new folder, which it returns.
// RESOURCE_EXHAUSTED when they don't fit (and then leaves nothing).
absl::StatusOr<std::string> PrepareCheckpoint(Blobs& blobs, const std::string& directory, uint64_t step,
                                              const ParameterTable& table);

// Writes ranges of the state into prepared files. Thread-safe. Doesn't own the Blobs.
class CheckpointWriter {
 public:
  // NOT_FOUND or FAILED_PRECONDITION when the folder isn't one that was prepared for this table.
  static absl::StatusOr<std::unique_ptr<CheckpointWriter>> Open(Blobs& blobs, const std::string& partial,
                                                                const ParameterTable& table);

  // Elements [begin, begin + elements.size()) of a class. OUT_OF_RANGE outside the table.
  absl::Status WriteRange(StateClass state_class, int64_t begin, std::span<const float> elements);
  // Returns when everything written through this writer is on disk. Once it failed it fails for good: the system may
  // have dropped the bytes, so that asking again would succeed and mean nothing.
  absl::Status Sync();

 private:
  CheckpointWriter(Blobs& blobs, std::string folder, CheckpointLayout layout)
      : blobs_(blobs), folder_(std::move(folder)), layout_(std::move(layout)) {}

  // Constant after construction.
  Blobs& blobs_;
  const std::string folder_;
  const CheckpointLayout layout_;

  std::mutex mutex_;
  // Guarded by mutex_: files with bytes that may not be on disk yet, and the first failure to bring some there.
  std::set<size_t> dirty_;
  absl::Status failure_;
};

// Fills in the manifest's list of files, checks the files' sizes, writes the manifest and gives the folder its final
// name, which it returns. A complete checkpoint of the same step is replaced.
absl::StatusOr<std::string> FinishCheckpoint(Blobs& blobs, const std::string& partial, Manifest manifest);

// Removes a folder that PrepareCheckpoint made; fine when it is gone.
absl::Status AbandonCheckpoint(Blobs& blobs, const std::string& partial);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_WRITER_H_
