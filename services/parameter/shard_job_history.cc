// What a shard keeps of a job's steps: digests, records, snapshots, and the checkpoint that is written from them.
#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/checkpoint/writer.h"
#include "services/parameter/limits.h"
#include "services/parameter/shard_job.h"

namespace penstock {
namespace {

// What is read, digested and written at a time; whole pieces.
constexpr int64_t kPartElements = 4 * kPieceElements;

}  // namespace

absl::Status ShardJob::BeginRead(uint64_t version) {
  const Lock lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(CheckOpenLocked());
  if (step_.committed_step() != version || step_.applying() || !step_.intact()) {
    return absl::FailedPreconditionError(
        absl::StrCat("version ", version, " is past: step ", step_.committed_step(), " is committed"));
  }
  ++readers_;
  return absl::OkStatus();
}

void ShardJob::EndRead() {
  const Lock lock(mutex_);
  --readers_;
  if (readers_ == 0) quiet_.notify_all();
}

v1::GetStepsResponse ShardJob::GetSteps(uint64_t from_step) const {
  const Lock lock(mutex_);
  v1::GetStepsResponse response;
  for (const v1::StepRecord& record : records_) {
    if (record.step() >= from_step) *response.add_records() = record;
  }
  response.set_committed_step(step_.committed_step());
  return response;
}

// ---- Digests ----

absl::StatusOr<std::vector<v1::PieceDigest>> ShardJob::DigestLive(uint64_t version) {
  std::vector<v1::PieceDigest> pieces;
  for (const ElementRange& part : SplitAtMultiples(range_, kPartElements)) {
    PENSTOCK_RETURN_IF_ERROR(BeginRead(version));
    std::vector<v1::PieceDigest> some =
        DigestPieces(part, state_->Elements(StateClass::kWeights, part), state_->Elements(StateClass::kExpAvg, part),
                     state_->Elements(StateClass::kExpAvgSq, part));
    EndRead();
    std::move(some.begin(), some.end(), std::back_inserter(pieces));
  }
  return pieces;
}

absl::StatusOr<v1::GetDigestResponse> ShardJob::GetDigest(uint64_t step) {
  v1::GetDigestResponse response;
  {
    const Lock lock(mutex_);
    PENSTOCK_RETURN_IF_ERROR(CheckOpenLocked());
    for (const DigestSet& set : digests_) {
      if (set.step != step) continue;
      response.mutable_pieces()->Add(set.pieces.begin(), set.pieces.end());
      return response;
    }
    if (step_.committed_step() != step) {
      return absl::NotFoundError(
          absl::StrCat("no digest of step ", step, " is held; step ", step_.committed_step(), " is committed"));
    }
  }
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<v1::PieceDigest> pieces, DigestLive(step));
  response.mutable_pieces()->Add(pieces.begin(), pieces.end());
  return response;
}

// ---- Checkpoints ----

absl::StatusOr<ShardJob::PartSpans> ShardJob::CopyLive(uint64_t version, ElementRange part,
                                                       std::array<std::vector<float>, kStateClasses>& copies) {
  PENSTOCK_RETURN_IF_ERROR(BeginRead(version));
  PartSpans spans;
  for (const StateClass state_class : kAllStateClasses) {
    std::vector<float>& copy = copies[static_cast<int>(state_class)];
    const std::span<const float> elements = state_->Elements(state_class, part);
    copy.assign(elements.begin(), elements.end());
    spans[static_cast<int>(state_class)] = copy;
  }
  EndRead();
  return spans;
}

absl::StatusOr<ShardJob::PartSpans> ShardJob::SnapshotPart(ElementRange part) {
  const Lock lock(mutex_);
  PENSTOCK_RETURN_IF_ERROR(CheckOpenLocked());  // so that Close doesn't wait for the whole checkpoint
  PartSpans spans;
  for (const StateClass state_class : kAllStateClasses) {
    spans[static_cast<int>(state_class)] = state_->Snapshot(state_class, part);
  }
  return spans;
}

absl::StatusOr<std::vector<v1::PieceDigest>> ShardJob::WriteParts(const v1::WriteCheckpointRequest& request,
                                                                  const Source& source) {
  PENSTOCK_ASSIGN_OR_RETURN(const ParameterTable table, ParameterTable::Create(request_.spec().model()));
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointWriter> writer,
                            CheckpointWriter::Open(*resources_.blobs, request.directory(), table));
  std::vector<v1::PieceDigest> pieces;
  for (const ElementRange& part : SplitAtMultiples(range_, kPartElements)) {
    PENSTOCK_ASSIGN_OR_RETURN(const PartSpans spans, source(part));
    for (const StateClass state_class : kAllStateClasses) {
      PENSTOCK_RETURN_IF_ERROR(writer->WriteRange(state_class, part.begin, spans[static_cast<int>(state_class)]));
    }
    // Of the very bytes that were handed to the disk.
    std::vector<v1::PieceDigest> some = DigestPieces(part, spans[0], spans[1], spans[2]);
    std::move(some.begin(), some.end(), std::back_inserter(pieces));
  }
  PENSTOCK_RETURN_IF_ERROR(writer->Sync());
  return pieces;
}

absl::StatusOr<v1::WriteCheckpointResponse> ShardJob::WriteCheckpoint(const v1::WriteCheckpointRequest& request) {
  const uint64_t step = request.step();
  bool from_snapshot = false;
  {
    const Lock lock(mutex_);
    PENSTOCK_RETURN_IF_ERROR(CheckOpenLocked());
    from_snapshot = step > 0 && snapshot_step_ == step;
    if (from_snapshot) {
      ++snapshot_users_;
    } else if (step_.committed_step() != step) {
      return absl::NotFoundError(
          absl::StrCat("no snapshot of step ", step, " is held; step ", step_.committed_step(), " is committed",
                       snapshot_step_ > 0 ? absl::StrCat(", and the snapshot is of step ", snapshot_step_) : ""));
    }
  }
  const auto release = absl::MakeCleanup([&] {
    const Lock lock(mutex_);
    if (from_snapshot && --snapshot_users_ == 0) quiet_.notify_all();
  });
  std::array<std::vector<float>, kStateClasses> copies;
  const Source source = [&](ElementRange part) {
    return from_snapshot ? SnapshotPart(part) : CopyLive(step, part, copies);
  };
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<v1::PieceDigest> pieces, WriteParts(request, source));
  v1::WriteCheckpointResponse response;
  response.mutable_pieces()->Add(pieces.begin(), pieces.end());
  return response;
}

void ShardJob::ReleaseSnapshot(uint64_t step) {
  const Lock lock(mutex_);
  if (snapshot_step_ == step) snapshot_step_ = 0;
}

}  // namespace penstock
