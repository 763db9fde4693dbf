// Clients of the parameter service.
//
// ShardClient speaks to one shard: one typed call for each RPC, one attempt, with a deadline. Its errors name the
// shard, its address and the method, and keep the shard's status code.
//
// ParameterClient speaks to all shards of one job under one epoch: it cuts ranges of the canonical space along the
// shards, runs them in parallel and tries again where a shard can't be reached. What a worker's rank uses:
//
//   ParameterClient::Options options;
//   options.job_id = assignment.job_id();
//   options.epoch = assignment.epoch();
//   options.shards = {assignment.shards().begin(), assignment.shards().end()};
//   options.elements = table.size();
//   PENSTOCK_ASSIGN_OR_RETURN(auto client, ParameterClient::Create(options));
//   std::vector<PushRange> pushes = {{range, gradients.data()}};
//   PENSTOCK_RETURN_IF_ERROR(client->Push(step, pushes));
//   std::vector<PullRange> pulls = {{range, weights.data()}};
//   PENSTOCK_RETURN_IF_ERROR(client->Pull(step, pulls));
//   // From another thread, at any moment: client->Cancel("the rank was stopped");
//
// Both are thread-safe. The caller owns the memory of gradients and weights, which must stay until the call returns.
#ifndef PENSTOCK_SERVICES_PARAMETER_CLIENT_H_
#define PENSTOCK_SERVICES_PARAMETER_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <grpcpp/channel.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/bfloat16.h"
#include "core/layout/range.h"
#include "protos/penstock/v1/parameter.pb.h"
#include "services/parameter/call_group.h"

namespace penstock {

// A range of the canonical space and where its elements lie: data[0] is element range.begin. Without a kind they are
// gradients in a push and weights in a pull.
struct PushRange {
  ElementRange range;
  const float* data = nullptr;
  v1::StateKind kind = v1::STATE_KIND_UNSPECIFIED;
};
// In bf16 where `rounded` says where to: then the shard rounds, `data` isn't used, and all ranges of a pull are so.
struct PullRange {
  ElementRange range;
  float* data = nullptr;
  v1::StateKind kind = v1::STATE_KIND_UNSPECIFIED;
  Bfloat16* rounded = nullptr;
};

// How one call is made.
struct CallOptions {
  // From now until the call ends with DEADLINE_EXCEEDED.
  absl::Duration timeout = absl::Seconds(10);
  // Ends the call with the others of the group; null for a call of its own.
  CallGroup* group = nullptr;
};

class ShardClient {
 public:
  // Answers of asynchronous calls. Called once, on one of gRPC's threads or on the caller's (when the group was
  // cancelled already): it must not block, nor destroy the client.
  template <typename Response>
  using Done = std::function<void(absl::StatusOr<Response>)>;

  // Connects when first used. `name` is how errors call it: "shard 1".
  ShardClient(const std::string& name, const std::string& address);
  // Ends the calls that are under way (CANCELLED) and returns when their answers were handed out.
  ~ShardClient();
  ShardClient(const ShardClient&) = delete;
  ShardClient& operator=(const ShardClient&) = delete;

  const std::string& name() const;
  const std::string& address() const;

  absl::StatusOr<v1::OpenJobResponse> OpenJob(const v1::OpenJobRequest& request, const CallOptions& options);
  absl::StatusOr<v1::CloseJobResponse> CloseJob(const v1::CloseJobRequest& request, const CallOptions& options);
  absl::StatusOr<v1::PrepareResponse> Prepare(const v1::PrepareRequest& request, const CallOptions& options);
  absl::StatusOr<v1::CommitResponse> Commit(const v1::CommitRequest& request, const CallOptions& options);
  absl::StatusOr<v1::SealResponse> Seal(const v1::SealRequest& request, const CallOptions& options);
  absl::StatusOr<v1::DecideResponse> Decide(const v1::DecideRequest& request, const CallOptions& options);
  absl::StatusOr<v1::WriteCheckpointResponse> WriteCheckpoint(const v1::WriteCheckpointRequest& request,
                                                              const CallOptions& options);
  absl::StatusOr<v1::ReleaseSnapshotResponse> ReleaseSnapshot(const v1::ReleaseSnapshotRequest& request,
                                                              const CallOptions& options);
  absl::StatusOr<v1::GetDigestResponse> GetDigest(const v1::GetDigestRequest& request, const CallOptions& options);
  absl::StatusOr<v1::GetStepsResponse> GetSteps(const v1::GetStepsRequest& request, const CallOptions& options);

  // The same without waiting, for whoever runs a state machine over many shards (StepLeader, EpochChange).
  // options.group lives until `done` was called.
  void OpenJobAsync(const v1::OpenJobRequest& request, const CallOptions& options, Done<v1::OpenJobResponse> done);
  void CloseJobAsync(const v1::CloseJobRequest& request, const CallOptions& options, Done<v1::CloseJobResponse> done);
  void PrepareAsync(const v1::PrepareRequest& request, const CallOptions& options, Done<v1::PrepareResponse> done);
  void CommitAsync(const v1::CommitRequest& request, const CallOptions& options, Done<v1::CommitResponse> done);
  void SealAsync(const v1::SealRequest& request, const CallOptions& options, Done<v1::SealResponse> done);
  void DecideAsync(const v1::DecideRequest& request, const CallOptions& options, Done<v1::DecideResponse> done);
  void WriteCheckpointAsync(const v1::WriteCheckpointRequest& request, const CallOptions& options,
                            Done<v1::WriteCheckpointResponse> done);
  void ReleaseSnapshotAsync(const v1::ReleaseSnapshotRequest& request, const CallOptions& options,
                            Done<v1::ReleaseSnapshotResponse> done);
  void GetDigestAsync(const v1::GetDigestRequest& request, const CallOptions& options,
                      Done<v1::GetDigestResponse> done);
  void GetStepsAsync(const v1::GetStepsRequest& request, const CallOptions& options, Done<v1::GetStepsResponse> done);

  // One stream of chunks with the gradients of `ranges`, all of them the shard's own.
  absl::Status Push(const std::string& job_id, uint64_t epoch, uint64_t step, std::span<const PushRange> ranges,
                    const CallOptions& options);
  // One stream of weights of exactly `version`, in the order of `ranges`. `received`, where it isn't null, is set to
  // the number of elements that are in place, also when the call fails, so that the caller can ask for the rest.
  absl::Status Pull(const std::string& job_id, uint64_t epoch, uint64_t version, std::span<const PullRange> ranges,
                    const CallOptions& options, uint64_t* received = nullptr);

  // Defined in client_internal.h, for the implementation.
  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

class ParameterClient {
 public:
  struct Options {
    std::string job_id;
    uint64_t epoch = 0;
    // Addresses, in shard order.
    std::vector<std::string> shards;
    // Size of the canonical space (ParameterTable::size()).
    int64_t elements = 0;
    // One attempt of a push or a pull on one shard, beside the time that its bytes take on a slow network.
    absl::Duration attempt_timeout = absl::Seconds(10);
    // All attempts of a push or a pull together. Covers the other ranks' backward passes and pushes, so it is generous.
    absl::Duration total_timeout = absl::Minutes(10);
    // A shard that can't be reached for so long fails the push or the pull.
    absl::Duration unavailable_timeout = absl::Seconds(30);
    // Pause before the second attempt; doubles up to the second value.
    absl::Duration retry_delay = absl::Milliseconds(20);
    absl::Duration retry_delay_max = absl::Seconds(1);
  };

  // INVALID_ARGUMENT for no shards or an empty space. Doesn't connect yet.
  static absl::StatusOr<std::unique_ptr<ParameterClient>> Create(Options options);
  ~ParameterClient();
  ParameterClient(const ParameterClient&) = delete;
  ParameterClient& operator=(const ParameterClient&) = delete;

  int shard_count() const;
  ShardClient& shard(int index);
  // Calls made through this group end with Cancel() too.
  CallGroup& group();

  // Sends the summed gradients of `ranges` for `step` and returns when every shard has them. Ranges may lie in any
  // order and may be pushed again. UNAVAILABLE and DEADLINE_EXCEEDED are tried again until total_timeout; any other
  // status ends the call. FAILED_PRECONDITION: the epoch is fenced, or the step is past.
  absl::Status Push(uint64_t step, std::span<const PushRange> ranges);
  // Fetches weights of exactly `version`, each shard's ranges in the order asked for, and waits until that version is
  // committed. What is in place isn't asked for again after a broken stream. When it fails the destinations hold
  // nothing of use.
  absl::Status Pull(uint64_t version, std::span<const PullRange> ranges);
  // Waits at most `total_timeout` instead of the options' value: the first pull of an epoch, say.
  absl::Status Pull(uint64_t version, std::span<const PullRange> ranges, absl::Duration total_timeout);

  // Waits until every shard that holds some of `ranges` has committed `version`. FAILED_PRECONDITION when it is past.
  absl::Status AwaitVersion(uint64_t version, std::span<const ElementRange> ranges, absl::Duration total_timeout);

  // Ends all calls at once, from any thread, and for good: every later one gives CANCELLED.
  void Cancel(const std::string& reason = "cancelled by the caller");

 private:
  struct Impl;
  explicit ParameterClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_CLIENT_H_
