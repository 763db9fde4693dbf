// A small model's job, state and checkpoints, for tests.
//
// Free functions and values; not synchronised.
#ifndef PENSTOCK_SERVICES_CHECKPOINT_CHECKPOINT_FIXTURE_H_
#define PENSTOCK_SERVICES_CHECKPOINT_CHECKPOINT_FIXTURE_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/model/parameter_table.h"
#include "protos/penstock/v1/job.pb.h"
#include "services/checkpoint/digest.h"
#include "services/checkpoint/manifest.h"
#include "services/storage/blobs.h"

namespace penstock {

// A GPT-2 of a few pieces, the last one short. 32 samples in a step.
v1::JobSpec SmallJob();
ParameterTable SmallTable();

// Every element of every class different from the others, and from those of other seeds.
struct SmallState {
  explicit SmallState(uint32_t seed);

  std::span<const float> operator[](StateClass state_class) const { return of[static_cast<size_t>(state_class)]; }
  std::vector<v1::PieceDigest> Pieces() const;

  std::array<std::vector<float>, kStateClasses> of;
};

// The manifest that belongs to it.
Manifest SmallManifest(uint64_t step, const SmallState& state);

// Writes a whole checkpoint, as `shards` shards in turn would; returns its folder.
absl::StatusOr<std::string> SaveSmallCheckpoint(Blobs& blobs, const std::string& directory, uint64_t step,
                                                const SmallState& state, int shards = 2);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CHECKPOINT_CHECKPOINT_FIXTURE_H_
