// Parameter shards in memory, for tests: they hold a version number instead of weights, and keep to the rules of
// epochs. Steps are committed by the test, in the leader's place. Thread-safe; answers come at once, on the caller's
// thread.
#ifndef PENSTOCK_COORDINATOR_JOBS_FAKE_SHARDS_H_
#define PENSTOCK_COORDINATOR_JOBS_FAKE_SHARDS_H_

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/jobs/shard_calls.h"
#include "services/storage/blobs.h"

namespace penstock {

class FakeShards final : public ShardCalls {
 public:
  // Checkpoints' manifests are read from there.
  explicit FakeShards(Blobs* blobs) : blobs_(blobs) {}

  // Empty the shard's memory, as a new process would.
  void Wipe(const std::string& id);
  // Answers with this from now on; OK: as usual.
  void Fail(const std::string& id, absl::Status status);
  // OpenJob from this folder answers DATA_LOSS.
  void DamageCheckpoint(const std::string& path);
  // Commits the next step on all shards that hold the job, as its leader does; the record.
  v1::StepRecord CommitStep(const std::string& job_id, uint64_t epoch);
  // Prepares the next step on all shards, and commits it on none.
  void PrepareStep(const std::string& job_id, uint64_t epoch);

  bool Holds(const std::string& id, const std::string& job_id);
  uint64_t CommittedStep(const std::string& id, const std::string& job_id);
  std::set<uint64_t> Snapshots(const std::string& id, const std::string& job_id);

  void OpenJob(const ShardAddress& shard, const v1::OpenJobRequest& request, absl::Duration timeout,
               Done<v1::OpenJobResponse> done) override;
  void CloseJob(const ShardAddress& shard, const v1::CloseJobRequest& request, absl::Duration timeout,
                Done<v1::CloseJobResponse> done) override;
  void Seal(const ShardAddress& shard, const v1::SealRequest& request, absl::Duration timeout,
            Done<v1::SealResponse> done) override;
  void Decide(const ShardAddress& shard, const v1::DecideRequest& request, absl::Duration timeout,
              Done<v1::DecideResponse> done) override;
  void WriteCheckpoint(const ShardAddress& shard, const v1::WriteCheckpointRequest& request, absl::Duration timeout,
                       Done<v1::WriteCheckpointResponse> done) override;
  void ReleaseSnapshot(const ShardAddress& shard, const v1::ReleaseSnapshotRequest& request, absl::Duration timeout,
                       Done<v1::ReleaseSnapshotResponse> done) override;
  void GetDigest(const ShardAddress& shard, const v1::GetDigestRequest& request, absl::Duration timeout,
                 Done<v1::GetDigestResponse> done) override;
  void GetSteps(const ShardAddress& shard, const v1::GetStepsRequest& request, absl::Duration timeout,
                Done<v1::GetStepsResponse> done) override;

 private:
  struct Job {
    v1::JobSpec spec;
    uint32_t index = 0;
    uint32_t count = 1;
    uint64_t open_epoch = 0;
    uint64_t sealed_epoch = 0;
    uint64_t committed_step = 0;
    std::optional<v1::PreparedStep> prepared;
    std::optional<v1::StepDecision> last_decision;
    std::map<uint64_t, v1::StepRecord> records;
    std::set<uint64_t> snapshots;
  };
  struct Shard {
    uint64_t incarnation = 1;
    absl::Status failure;
    std::map<std::string, Job> jobs;
  };
  template <typename Response, typename Work>
  void Answer(const ShardAddress& shard, Done<Response> done, Work work);
  static absl::StatusOr<Job*> Find(Shard& shard, const std::string& job_id);
  static void Commit(Job& job, const v1::StepDecision& decision);
  static v1::StepInputs Inputs(const Job& job, uint64_t step);
  static std::vector<v1::PieceDigest> Digests(const Job& job, uint64_t step);

  Blobs* const blobs_;
  std::mutex mutex_;
  // Guarded by mutex_.
  std::map<std::string, Shard> shards_;
  std::set<std::string> damaged_;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_FAKE_SHARDS_H_
