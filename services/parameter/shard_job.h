// One job on one shard: its numbers (ShardState), the state of its step (core/commit/shard_step.h), and what is kept of
// its last steps. Everything that an RPC asks of a job is a method here; the gRPC files only translate.
//
// Thread-safe. The step's state is guarded by one mutex, held for bookkeeping only. The numbers are worked on outside
// of it, under ShardStep's rules and one of our own for those who read the committed version: a reader registers for
// the copy of one chunk, under the mutex and only while the version is the one it wants, and an update begins when no
// reader is registered. New ones are refused from the moment when the update was handed out, so it waits for some
// copies of a chunk at most, never for a network; and a stream whose version is replaced ends with FAILED_PRECONDITION
// between two chunks, never with a mixture (invariant 2).
//
// Calls that may have to wait take a waiter and never block: see waiter.h. Commit and Decide may run the update on the
// caller's thread; WriteCheckpoint and Close block.
#ifndef PENSTOCK_SERVICES_PARAMETER_SHARD_JOB_H_
#define PENSTOCK_SERVICES_PARAMETER_SHARD_JOB_H_

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <grpcpp/support/byte_buffer.h>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/commit/shard_step.h"
#include "protos/penstock/v1/parameter.pb.h"
#include "services/parameter/frame.h"
#include "services/parameter/memory_budget.h"
#include "services/parameter/shard_state.h"
#include "services/parameter/thread_pool.h"
#include "services/parameter/waiter.h"
#include "services/storage/blobs.h"

namespace penstock {

// What all jobs of a shard share. All of it outlives them.
struct ShardResources {
  MemoryBudget* budget = nullptr;
  // For work on the numbers.
  ThreadPool* compute = nullptr;
  Blobs* blobs = nullptr;
  // Of the process.
  uint64_t incarnation = 0;
};

// Which numbers a pull is about, and how they come.
struct PulledElements {
  v1::StateKind kind = v1::STATE_KIND_UNSPECIFIED;  // weights
  bool bf16 = false;                                // rounded
};

class ShardJob {
 public:
  // Memory by what it is for.
  struct Bytes {
    uint64_t state = 0;
    uint64_t gradient = 0;
    uint64_t snapshot = 0;
  };

  // Allocates and fills; takes long. `request` was checked (CheckOpenRequest). CANCELLED once `cancelled` is set.
  static absl::StatusOr<std::shared_ptr<ShardJob>> Open(const v1::OpenJobRequest& request,
                                                        const ShardResources& resources,
                                                        const std::atomic<bool>& cancelled);
  ~ShardJob();

  const v1::OpenJobRequest& request() const { return request_; }
  ElementRange range() const { return range_; }
  const Bytes& bytes() const { return bytes_; }
  v1::OpenJobResponse Describe() const;

  // ---- Gradients in ----
  absl::Status PushBegin(uint64_t epoch, uint64_t step) const;
  // One chunk, whose checksum is checked before a byte of it counts. Returns its number of elements.
  absl::StatusOr<uint64_t> PushChunk(uint64_t epoch, uint64_t step, const PushFrame& frame);

  // ---- The step ----
  absl::StatusOr<Progress> Prepare(const v1::PrepareRequest& request, const WaiterPtr& waiter,
                                   v1::PrepareResponse* response);
  absl::StatusOr<Progress> Commit(const v1::CommitRequest& request, const WaiterPtr& waiter,
                                  v1::CommitResponse* response);
  absl::StatusOr<Progress> Seal(const v1::SealRequest& request, const WaiterPtr& waiter, v1::SealResponse* response);
  absl::StatusOr<Progress> Decide(const v1::DecideRequest& request, const WaiterPtr& waiter,
                                  v1::DecideResponse* response);

  // ---- Weights out ----
  // OUT_OF_RANGE, INVALID_ARGUMENT for ranges that can't be pulled here.
  absl::Status CheckPullRanges(const v1::PullRequest& request) const;
  // One frame with the weights (or what `what` says) of `part`, at most kChunkElements, of exactly `version`.
  absl::StatusOr<Progress> PullChunk(uint64_t epoch, uint64_t version, ElementRange part, PulledElements what,
                                     const WaiterPtr& waiter, grpc::ByteBuffer* frame);

  // ---- What is kept ----
  absl::StatusOr<v1::GetDigestResponse> GetDigest(uint64_t step);
  v1::GetStepsResponse GetSteps(uint64_t from_step) const;
  // Blocks until the bytes are on disk. Takes the snapshot of the step, or the numbers themselves while the step is the
  // committed one.
  absl::StatusOr<v1::WriteCheckpointResponse> WriteCheckpoint(const v1::WriteCheckpointRequest& request);
  void ReleaseSnapshot(uint64_t step);

  // The waiter is not woken any more (but may be at this moment).
  void Forget(const Waiter* waiter);

  // ---- Its end ----
  // Whether an OpenJob of `epoch` finds the job open (kAlreadyOpen), or replaces it (kReplace): then every call gives
  // NOT_FOUND from now on, and Close() is to follow.
  absl::StatusOr<OpenVerdict> BeginOpen(uint64_t epoch);
  // FAILED_PRECONDITION for an old epoch. Else every call gives NOT_FOUND from now on, and Close() is to follow.
  absl::Status BeginClose(uint64_t epoch);
  // Waits for data work under way and frees the memory. UNAVAILABLE when that takes longer than kCloseWaitMax; call it
  // again then.
  absl::Status Close();

  uint64_t sealed_epoch() const;
  uint64_t committed_step() const;

 private:
  // Digests of the pieces at one step.
  struct DigestSet {
    uint64_t step = 0;
    std::vector<v1::PieceDigest> pieces;
  };
  using Lock = std::unique_lock<std::mutex>;
  // The elements of a part of the range, by class of the state.
  using PartSpans = std::array<std::span<const float>, kStateClasses>;
  // Where the bytes of a checkpoint come from: part -> its elements, or why they are gone.
  using Source = std::function<absl::StatusOr<PartSpans>(ElementRange)>;

  ShardJob(const v1::OpenJobRequest& request, const ShardResources& resources, std::unique_ptr<ShardState> state,
           uint64_t version);

  absl::Status CheckOpenLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckStepLimit(uint64_t step) const;
  absl::StatusOr<Progress> WaitLocked(const WaiterPtr& waiter) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Unlocks and wakes everybody who waits; the lock is held again after.
  void WakeAll(Lock& lock);
  // Puts a verdict into effect. The lock is held before and after.
  absl::StatusOr<Progress> Obey(const absl::StatusOr<ShardStep::Verdict>& verdict, const WaiterPtr& waiter, Lock& lock);
  // The records of the steps that a published version leaves out.
  void KeepRecords(const v1::CommitRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Runs the update that the step's state handed out. Unlocks meanwhile; the lock is held again after.
  void Apply(Lock& lock);

  // Reads of the committed version, a part at a time.
  absl::Status BeginRead(uint64_t version);
  void EndRead();
  absl::StatusOr<std::vector<v1::PieceDigest>> DigestLive(uint64_t version);
  absl::StatusOr<PartSpans> CopyLive(uint64_t version, ElementRange part,
                                     std::array<std::vector<float>, kStateClasses>& copies);
  absl::StatusOr<PartSpans> SnapshotPart(ElementRange part);
  absl::StatusOr<std::vector<v1::PieceDigest>> WriteParts(const v1::WriteCheckpointRequest& request,
                                                          const Source& source);

  // Constant after construction.
  const v1::OpenJobRequest request_;
  const ShardResources resources_;
  const ElementRange range_;
  const Bytes bytes_;
  // The pointer is constant until Close; what it points to is worked on under the rules above.
  std::unique_ptr<ShardState> state_;

  std::condition_variable quiet_;  // a reader, a writer of the snapshot or data work ended
  mutable std::mutex mutex_;
  ShardStep step_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<WaiterPtr> waiters_ ABSL_GUARDED_BY(mutex_);
  int readers_ ABSL_GUARDED_BY(mutex_) = 0;
  // Step of the snapshot; 0 for none.
  uint64_t snapshot_step_ ABSL_GUARDED_BY(mutex_) = 0;
  int snapshot_users_ ABSL_GUARDED_BY(mutex_) = 0;
  // Newest last.
  std::deque<DigestSet> digests_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::StepRecord> records_ ABSL_GUARDED_BY(mutex_);
};

// What can be said about a request before anything is allocated: INVALID_ARGUMENT, saying what would be right.
absl::Status CheckOpenRequest(const v1::OpenJobRequest& request);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_SHARD_JOB_H_
