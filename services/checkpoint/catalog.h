// The checkpoints of a job: folders `step-NNNNNNNN` in its folder.
//
// Thread-safe: free functions; one process at a time should write to a job's folder.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_CATALOG_H_
#define PENSTOCK_SERVICES_CHECKPOINT_CATALOG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/checkpoint/manifest.h"
#include "services/storage/blobs.h"

namespace penstock {

struct CheckpointInfo {
  std::string path;
  // As the folder's name says.
  uint64_t step = 0;
  // OK, or why it isn't a usable checkpoint. Says nothing about the tensors' bytes: VerifyCheckpoint reads those.
  absl::Status status;
  // Of all tensor files; 0 when unusable.
  uint64_t bytes = 0;
  std::string job_name;
  uint64_t samples_consumed = 0;
  std::string digest;
};

// DIRECTORY/JOBNAME.
std::string JobCheckpointFolder(const std::string& directory, const std::string& job_name);

// Newest first; folders that were never finished (`.partial`) are left out. NOT_FOUND when there is no such folder.
absl::StatusOr<std::vector<CheckpointInfo>> ListCheckpoints(Blobs& blobs, const std::string& folder);

// The newest one whose manifest is whole and whose files have their sizes. NOT_FOUND when there is none, with what was
// wrong with those that are there.
absl::StatusOr<CheckpointInfo> FindNewestCheckpoint(Blobs& blobs, const std::string& folder);

// Deletes the oldest complete checkpoints beyond the `keep` newest (0 keeps all). Call it once the one of `newest_step` is
// complete: later steps are an earlier run's, which began anew or went back; they don't count and stay. Unusable ones
// don't count either and stay for somebody to look at.
absl::Status ApplyRetention(Blobs& blobs, const std::string& folder, uint32_t keep, uint64_t newest_step);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_CATALOG_H_
