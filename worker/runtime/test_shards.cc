#include "worker/runtime/test_shards.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

constexpr CallOptions kCall{.timeout = absl::Seconds(20)};

}  // namespace

TestShards::TestShards(const v1::JobSpec& spec, int count) {
  for (int i = 0; i < count; ++i) {
    absl::StatusOr<std::unique_ptr<ParameterServer>> server = ParameterServer::Start({});
    PENSTOCK_CHECK(server.ok());
    servers_.push_back(*std::move(server));
    addresses_.push_back(servers_.back()->address());
    clients_.push_back(std::make_unique<ShardClient>(absl::StrCat("shard ", i), addresses_.back()));
    v1::OpenJobRequest open;
    open.set_job_id("job-1");
    *open.mutable_spec() = spec;
    open.set_shard_index(i);
    open.set_shard_count(count);
    open.set_epoch(1);
    EXPECT_TRUE(clients_[i]->OpenJob(open, kCall).ok());
  }
}

uint64_t TestShards::Seal(uint64_t epoch) {
  std::vector<v1::SealResponse> sealed;
  uint64_t newest = 0;
  for (auto& client : clients_) {
    v1::SealRequest seal;
    seal.set_job_id("job-1");
    seal.set_epoch(epoch);
    const auto response = client->Seal(seal, kCall);
    EXPECT_TRUE(response.ok()) << response.status();
    sealed.push_back(*response);
    newest = std::max(newest, response->committed_step());
  }
  for (size_t i = 0; i < clients_.size(); ++i) {
    if (!sealed[i].has_prepared()) continue;
    v1::DecideRequest decide;
    decide.set_job_id("job-1");
    decide.set_epoch(epoch);
    decide.set_step(sealed[i].prepared().step());
    for (const v1::SealResponse& other : sealed) {
      if (other.committed_step() == decide.step()) *decide.mutable_decision() = other.last_decision();
    }
    EXPECT_TRUE(clients_[i]->Decide(decide, kCall).ok());
  }
  return newest;
}

std::string TestShards::Digest(uint64_t step) {
  std::string all;
  for (auto& client : clients_) {
    v1::GetDigestRequest request;
    request.set_job_id("job-1");
    request.set_step(step);
    const auto response = client->GetDigest(request, kCall);
    EXPECT_TRUE(response.ok()) << response.status();
    if (!response.ok()) return "none";
    for (const v1::PieceDigest& piece : response->pieces()) absl::StrAppend(&all, piece.digests());
  }
  return all;
}

int64_t TestShards::Counter(const std::string& name) const {
  double sum = 0;
  for (const auto& server : servers_) sum += CounterIn(server->metrics(), name);
  return static_cast<int64_t>(sum);
}

}  // namespace penstock
