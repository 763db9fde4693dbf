// manifest.json: what a checkpoint is and what its bytes must be. Written last, so a folder without a whole one is not
// a checkpoint. Its last line is a checksum of all bytes before that line.
//
// Thread-safe: free functions without state.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_MANIFEST_H_
#define PENSTOCK_SERVICES_CHECKPOINT_MANIFEST_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/job.pb.h"
#include "services/checkpoint/digest.h"

namespace penstock {

inline constexpr int kManifestFormatVersion = 1;
inline constexpr uint64_t kManifestBytesMax = uint64_t{1} << 30;
inline constexpr std::string_view kManifestName = "manifest.json";

struct ManifestFile {
  // Within the checkpoint's folder.
  std::string name;
  uint64_t bytes = 0;
};

struct Manifest {
  // The effective job. Its model says what the tensors are.
  v1::JobSpec spec;
  uint64_t step = 0;
  uint64_t samples_consumed = 0;
  // Of the canonical space.
  int64_t elements = 0;
  // The job's digest (CombineDigest).
  std::string digest;
  // All of them, in canonical order.
  std::vector<PieceDigests> pieces;
  // Filled by FinishCheckpoint.
  std::vector<ManifestFile> files;
};

// Of a complete checkpoint to be: checks that the pieces are all there and takes the job's digest.
absl::StatusOr<Manifest> MakeManifest(const v1::JobSpec& spec, uint64_t step, uint64_t samples_consumed,
                                      int64_t elements, std::span<const v1::PieceDigest> pieces);

std::string FormatManifest(const Manifest& manifest);
// DATA_LOSS, saying what is wrong, for text that is cut, damaged or contradicts itself; UNIMPLEMENTED for a newer
// format version.
absl::StatusOr<Manifest> ParseManifest(std::string_view text);

// What keeps a job from going on from this checkpoint, field by field: another model, optimizer, seed or batch size.
// Empty: it can. At step 0 only the model counts. Mesh, schedule, ZeRO, number of shards, steps and rates may differ.
std::vector<v1::JobViolation> CheckResume(const Manifest& manifest, const v1::JobSpec& spec);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_MANIFEST_H_
