#include "coordinator/jobs/shard_calls.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace penstock {

ShardClientCalls::~ShardClientCalls() { Stop(); }

void ShardClientCalls::Stop() {
  group_.Cancel("the coordinator is stopping");
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return calls_ == 0; });
}

CallOptions ShardClientCalls::Within(absl::Duration timeout) {
  CallOptions options;
  options.timeout = timeout;
  options.group = &group_;
  return options;
}

template <typename Response>
ShardCalls::Done<Response> ShardClientCalls::Counted(Done<Response> done) {
  {
    std::lock_guard lock(mutex_);
    ++calls_;
  }
  return [this, done = std::move(done)](absl::StatusOr<Response> response) {
    done(std::move(response));
    std::lock_guard lock(mutex_);
    if (--calls_ == 0) idle_.notify_all();
  };
}

std::shared_ptr<ShardClient> ShardClientCalls::Client(const ShardAddress& shard) {
  const std::string key = absl::StrCat(shard.id, "@", shard.address);
  std::shared_ptr<ShardClient> dropped;  // goes after the lock
  std::lock_guard lock(mutex_);
  Entry& entry = clients_[key];
  if (entry.client == nullptr) entry.client = std::make_shared<ShardClient>(shard.id, shard.address);
  entry.used = ++uses_;
  const std::shared_ptr<ShardClient> client = entry.client;
  if (clients_.size() > kClientsMax) {
    const auto least = std::min_element(clients_.begin(), clients_.end(),
                                        [](const auto& a, const auto& b) { return a.second.used < b.second.used; });
    dropped = std::move(least->second.client);
    clients_.erase(least);
  }
  return client;
}

void ShardClientCalls::OpenJob(const ShardAddress& shard, const v1::OpenJobRequest& request, absl::Duration timeout,
                               Done<v1::OpenJobResponse> done) {
  Client(shard)->OpenJobAsync(request, Within(timeout), Counted(std::move(done)));
}

void ShardClientCalls::CloseJob(const ShardAddress& shard, const v1::CloseJobRequest& request, absl::Duration timeout,
                                Done<v1::CloseJobResponse> done) {
  Client(shard)->CloseJobAsync(request, Within(timeout), Counted(std::move(done)));
}

void ShardClientCalls::Seal(const ShardAddress& shard, const v1::SealRequest& request, absl::Duration timeout,
                            Done<v1::SealResponse> done) {
  Client(shard)->SealAsync(request, Within(timeout), Counted(std::move(done)));
}

void ShardClientCalls::Decide(const ShardAddress& shard, const v1::DecideRequest& request, absl::Duration timeout,
                              Done<v1::DecideResponse> done) {
  Client(shard)->DecideAsync(request, Within(timeout), Counted(std::move(done)));
}

void ShardClientCalls::WriteCheckpoint(const ShardAddress& shard, const v1::WriteCheckpointRequest& request,
                                       absl::Duration timeout, Done<v1::WriteCheckpointResponse> done) {
  Client(shard)->WriteCheckpointAsync(request, Within(timeout), Counted(std::move(done)));
}

void ShardClientCalls::ReleaseSnapshot(const ShardAddress& shard, const v1::ReleaseSnapshotRequest& request,
                                       absl::Duration timeout, Done<v1::ReleaseSnapshotResponse> done) {
  Client(shard)->ReleaseSnapshotAsync(request, Within(timeout), Counted(std::move(done)));
}

void ShardClientCalls::GetDigest(const ShardAddress& shard, const v1::GetDigestRequest& request, absl::Duration timeout,
                                 Done<v1::GetDigestResponse> done) {
  Client(shard)->GetDigestAsync(request, Within(timeout), Counted(std::move(done)));
}

void ShardClientCalls::GetSteps(const ShardAddress& shard, const v1::GetStepsRequest& request, absl::Duration timeout,
                                Done<v1::GetStepsResponse> done) {
  Client(shard)->GetStepsAsync(request, Within(timeout), Counted(std::move(done)));
}

}  // namespace penstock
