#include "coordinator/jobs/fake_shards.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/commit/decision.h"
#include "core/layout/shard_ranges.h"
#include "core/model/parameter_table.h"
#include "core/plan/job_facts.h"
#include "services/checkpoint/manifest.h"

namespace penstock {

template <typename Response, typename Work>
void FakeShards::Answer(const ShardAddress& shard, Done<Response> done, Work work) {
  absl::StatusOr<Response> response = Response();
  {
    std::lock_guard lock(mutex_);
    Shard& found = shards_[shard.id];
    if (found.failure.ok()) {
      const absl::Status status = work(found, *response);
      if (!status.ok()) response = status;
    } else {
      response = found.failure;
    }
  }
  done(std::move(response));
}

absl::StatusOr<FakeShards::Job*> FakeShards::Find(Shard& shard, const std::string& job_id) {
  const auto found = shard.jobs.find(job_id);
  if (found == shard.jobs.end()) return absl::NotFoundError(absl::StrCat("job ", job_id, " isn't open here"));
  return &found->second;
}

// --- What tests do. ---

void FakeShards::Wipe(const std::string& id) {
  std::lock_guard lock(mutex_);
  shards_[id].jobs.clear();
  ++shards_[id].incarnation;
}

void FakeShards::Fail(const std::string& id, absl::Status status) {
  std::lock_guard lock(mutex_);
  shards_[id].failure = std::move(status);
}

void FakeShards::DamageCheckpoint(const std::string& path) {
  std::lock_guard lock(mutex_);
  damaged_.insert(path);
}

v1::StepInputs FakeShards::Inputs(const Job& job, uint64_t step) {
  const SampleWindow samples = SamplesOfStep(job.spec, step);
  v1::StepInputs inputs;
  inputs.set_target_count(samples.size() * job.spec.model().seq_length());
  inputs.set_loss_sum(static_cast<double>(inputs.target_count()) / static_cast<double>(step));
  v1::SampleRange& range = *inputs.add_samples();
  range.set_begin(samples.begin);
  range.set_end(samples.end);
  return inputs;
}

void FakeShards::Commit(Job& job, const v1::StepDecision& decision) {
  job.committed_step = decision.step();
  job.last_decision = decision;
  job.prepared.reset();
  job.records[decision.step()] = MakeRecord(decision, job.sealed_epoch);
  if (IsCheckpointStep(job.spec, decision.step())) job.snapshots.insert(decision.step());
}

void FakeShards::PrepareStep(const std::string& job_id, uint64_t epoch) {
  std::lock_guard lock(mutex_);
  for (auto& [id, shard] : shards_) {
    const auto found = shard.jobs.find(job_id);
    if (found == shard.jobs.end() || found->second.sealed_epoch != epoch) continue;
    Job& job = found->second;
    job.prepared.emplace();
    job.prepared->set_step(job.committed_step + 1);
    *job.prepared->mutable_inputs() = Inputs(job, job.committed_step + 1);
    job.prepared->add_piece_square_sums(1.0);
  }
}

v1::StepRecord FakeShards::CommitStep(const std::string& job_id, uint64_t epoch) {
  PrepareStep(job_id, epoch);
  std::lock_guard lock(mutex_);
  std::vector<Job*> jobs;
  std::vector<v1::PreparedStep> prepared;
  for (auto& [id, shard] : shards_) {
    const auto found = shard.jobs.find(job_id);
    if (found == shard.jobs.end() || !found->second.prepared.has_value()) continue;
    jobs.push_back(&found->second);
    prepared.push_back(*found->second.prepared);
  }
  if (jobs.empty()) return {};
  const v1::JobSpec& spec = jobs.front()->spec;
  const absl::StatusOr<v1::StepDecision> decision =
      ::penstock::Decide(spec.optimizer(), spec.training().steps(), prepared);
  PENSTOCK_CHECK(decision.ok());
  for (Job* job : jobs) Commit(*job, *decision);
  v1::StepRecord record = MakeRecord(*decision, epoch);
  record.set_step_seconds(0.1);
  return record;
}

bool FakeShards::Holds(const std::string& id, const std::string& job_id) {
  std::lock_guard lock(mutex_);
  return shards_[id].jobs.contains(job_id);
}

uint64_t FakeShards::CommittedStep(const std::string& id, const std::string& job_id) {
  std::lock_guard lock(mutex_);
  return shards_[id].jobs[job_id].committed_step;
}

std::set<uint64_t> FakeShards::Snapshots(const std::string& id, const std::string& job_id) {
  std::lock_guard lock(mutex_);
  return shards_[id].jobs[job_id].snapshots;
}

// --- What the coordinator asks. ---

void FakeShards::OpenJob(const ShardAddress& shard, const v1::OpenJobRequest& request, absl::Duration,
                         Done<v1::OpenJobResponse> done) {
  Answer<v1::OpenJobResponse>(shard, std::move(done), [&](Shard& found, v1::OpenJobResponse& response) -> absl::Status {
    const auto held = found.jobs.find(request.job_id());
    if (held != found.jobs.end() && held->second.sealed_epoch > request.epoch()) {
      return absl::FailedPreconditionError("a newer epoch is sealed");
    }
    if (held == found.jobs.end() || held->second.open_epoch != request.epoch()) {
      Job job;
      job.spec = request.spec();
      job.index = request.shard_index();
      job.count = request.shard_count();
      job.open_epoch = job.sealed_epoch = request.epoch();
      if (!request.checkpoint_path().empty()) {
        if (damaged_.contains(request.checkpoint_path()))
          return absl::DataLossError("piece 0 doesn't match its digest");
        PENSTOCK_ASSIGN_OR_RETURN(
            const std::string text,
            ReadWholeBlob(*blobs_, JoinPath(request.checkpoint_path(), kManifestName), kManifestBytesMax));
        PENSTOCK_ASSIGN_OR_RETURN(const Manifest manifest, ParseManifest(text));
        job.committed_step = manifest.step;
      }
      found.jobs[request.job_id()] = std::move(job);
    }
    response.set_committed_step(found.jobs[request.job_id()].committed_step);
    return absl::OkStatus();
  });
}

void FakeShards::CloseJob(const ShardAddress& shard, const v1::CloseJobRequest& request, absl::Duration,
                          Done<v1::CloseJobResponse> done) {
  Answer<v1::CloseJobResponse>(shard, std::move(done), [&](Shard& found, v1::CloseJobResponse&) -> absl::Status {
    const auto held = found.jobs.find(request.job_id());
    if (held != found.jobs.end() && held->second.sealed_epoch > request.epoch()) {
      return absl::FailedPreconditionError("a newer epoch is sealed");
    }
    found.jobs.erase(request.job_id());
    return absl::OkStatus();
  });
}

void FakeShards::Seal(const ShardAddress& shard, const v1::SealRequest& request, absl::Duration,
                      Done<v1::SealResponse> done) {
  Answer<v1::SealResponse>(shard, std::move(done), [&](Shard& found, v1::SealResponse& response) -> absl::Status {
    PENSTOCK_ASSIGN_OR_RETURN(Job * job, Find(found, request.job_id()));
    if (job->sealed_epoch > request.epoch()) return absl::FailedPreconditionError("a newer epoch is sealed");
    job->sealed_epoch = request.epoch();
    response.set_committed_step(job->committed_step);
    if (job->last_decision.has_value()) *response.mutable_last_decision() = *job->last_decision;
    if (job->prepared.has_value()) *response.mutable_prepared() = *job->prepared;
    response.set_incarnation(found.incarnation);
    response.set_open_epoch(job->open_epoch);
    return absl::OkStatus();
  });
}

void FakeShards::Decide(const ShardAddress& shard, const v1::DecideRequest& request, absl::Duration,
                        Done<v1::DecideResponse> done) {
  Answer<v1::DecideResponse>(shard, std::move(done), [&](Shard& found, v1::DecideResponse& response) -> absl::Status {
    PENSTOCK_ASSIGN_OR_RETURN(Job * job, Find(found, request.job_id()));
    if (job->sealed_epoch != request.epoch()) return absl::FailedPreconditionError("another epoch is sealed");
    if (request.has_decision() && job->committed_step < request.step()) {
      Commit(*job, request.decision());
    } else if (!request.has_decision()) {
      job->prepared.reset();
    }
    response.set_committed_step(job->committed_step);
    return absl::OkStatus();
  });
}

std::vector<v1::PieceDigest> FakeShards::Digests(const Job& job, uint64_t step) {
  const absl::StatusOr<ParameterTable> table = ParameterTable::Create(job.spec.model());
  PENSTOCK_CHECK(table.ok());
  const auto ranges = ShardRanges::Create(table->size(), static_cast<int>(job.count));
  PENSTOCK_CHECK(ranges.ok());
  const ElementRange pieces = ranges->Pieces(static_cast<int>(job.index));
  std::vector<v1::PieceDigest> digests;
  for (int64_t piece = pieces.begin; piece < pieces.end; ++piece) {
    v1::PieceDigest& digest = digests.emplace_back();
    digest.set_piece(static_cast<uint64_t>(piece));
    digest.set_digests(std::string(48, static_cast<char>(step)));
  }
  return digests;
}

void FakeShards::WriteCheckpoint(const ShardAddress& shard, const v1::WriteCheckpointRequest& request, absl::Duration,
                                 Done<v1::WriteCheckpointResponse> done) {
  Answer<v1::WriteCheckpointResponse>(shard, std::move(done),
                                      [&](Shard& found, v1::WriteCheckpointResponse& response) -> absl::Status {
                                        PENSTOCK_ASSIGN_OR_RETURN(Job * job, Find(found, request.job_id()));
                                        if (!job->snapshots.contains(request.step()))
                                          return absl::NotFoundError("no snapshot of that step is held");
                                        for (v1::PieceDigest& digest : Digests(*job, request.step()))
                                          *response.add_pieces() = std::move(digest);
                                        return absl::OkStatus();
                                      });
}

void FakeShards::ReleaseSnapshot(const ShardAddress& shard, const v1::ReleaseSnapshotRequest& request, absl::Duration,
                                 Done<v1::ReleaseSnapshotResponse> done) {
  Answer<v1::ReleaseSnapshotResponse>(shard, std::move(done),
                                      [&](Shard& found, v1::ReleaseSnapshotResponse&) -> absl::Status {
                                        PENSTOCK_ASSIGN_OR_RETURN(Job * job, Find(found, request.job_id()));
                                        job->snapshots.erase(request.step());
                                        return absl::OkStatus();
                                      });
}

void FakeShards::GetDigest(const ShardAddress& shard, const v1::GetDigestRequest& request, absl::Duration,
                           Done<v1::GetDigestResponse> done) {
  Answer<v1::GetDigestResponse>(shard, std::move(done),
                                [&](Shard& found, v1::GetDigestResponse& response) -> absl::Status {
                                  PENSTOCK_ASSIGN_OR_RETURN(Job * job, Find(found, request.job_id()));
                                  for (v1::PieceDigest& digest : Digests(*job, request.step()))
                                    *response.add_pieces() = std::move(digest);
                                  return absl::OkStatus();
                                });
}

void FakeShards::GetSteps(const ShardAddress& shard, const v1::GetStepsRequest& request, absl::Duration,
                          Done<v1::GetStepsResponse> done) {
  Answer<v1::GetStepsResponse>(
      shard, std::move(done), [&](Shard& found, v1::GetStepsResponse& response) -> absl::Status {
        PENSTOCK_ASSIGN_OR_RETURN(Job * job, Find(found, request.job_id()));
        for (auto at = job->records.lower_bound(request.from_step()); at != job->records.end(); ++at) {
          *response.add_records() = at->second;
        }
        response.set_committed_step(job->committed_step);
        return absl::OkStatus();
      });
}

}  // namespace penstock
