// What the coordinator asks of parameter shards, without waiting. The real one speaks gRPC (ShardClientCalls); tests
// have a fake (fake_shards.h).
//
// Thread-safe. `done` is called once, on any thread, also before the call returns; it must not block.
#ifndef PENSTOCK_COORDINATOR_JOBS_SHARD_CALLS_H_
#define PENSTOCK_COORDINATOR_JOBS_SHARD_CALLS_H_

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "protos/penstock/v1/parameter.pb.h"
#include "services/parameter/call_group.h"
#include "services/parameter/client.h"

namespace penstock {

struct ShardAddress {
  // "params-1".
  std::string id;
  std::string address;
};

class ShardCalls {
 public:
  template <typename Response>
  using Done = std::function<void(absl::StatusOr<Response>)>;

  virtual ~ShardCalls() = default;
  virtual void OpenJob(const ShardAddress& shard, const v1::OpenJobRequest& request, absl::Duration timeout,
                       Done<v1::OpenJobResponse> done) = 0;
  virtual void CloseJob(const ShardAddress& shard, const v1::CloseJobRequest& request, absl::Duration timeout,
                        Done<v1::CloseJobResponse> done) = 0;
  virtual void Seal(const ShardAddress& shard, const v1::SealRequest& request, absl::Duration timeout,
                    Done<v1::SealResponse> done) = 0;
  virtual void Decide(const ShardAddress& shard, const v1::DecideRequest& request, absl::Duration timeout,
                      Done<v1::DecideResponse> done) = 0;
  virtual void WriteCheckpoint(const ShardAddress& shard, const v1::WriteCheckpointRequest& request,
                               absl::Duration timeout, Done<v1::WriteCheckpointResponse> done) = 0;
  virtual void ReleaseSnapshot(const ShardAddress& shard, const v1::ReleaseSnapshotRequest& request,
                               absl::Duration timeout, Done<v1::ReleaseSnapshotResponse> done) = 0;
  virtual void GetDigest(const ShardAddress& shard, const v1::GetDigestRequest& request, absl::Duration timeout,
                         Done<v1::GetDigestResponse> done) = 0;
  virtual void GetSteps(const ShardAddress& shard, const v1::GetStepsRequest& request, absl::Duration timeout,
                        Done<v1::GetStepsResponse> done) = 0;
};

class ShardClientCalls final : public ShardCalls {
 public:
  // Clients that are kept; the one that was used least goes first.
  static constexpr size_t kClientsMax = 1024;

  // Ends the calls under way and waits until each one has answered.
  ~ShardClientCalls() override;
  // Ends the calls under way, and every later one at once, with CANCELLED; returns when none is under way.
  void Stop();

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
  struct Entry {
    std::shared_ptr<ShardClient> client;
    uint64_t used = 0;
  };
  std::shared_ptr<ShardClient> Client(const ShardAddress& shard);
  CallOptions Within(absl::Duration timeout);
  // `done`, counted as a call under way until it has returned.
  template <typename Response>
  Done<Response> Counted(Done<Response> done);

  CallGroup group_;

  std::mutex mutex_;
  std::condition_variable idle_;
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
  // By id and address: a shard that comes back elsewhere is another one here.
  std::map<std::string, Entry> clients_ ABSL_GUARDED_BY(mutex_);
  uint64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_JOBS_SHARD_CALLS_H_
