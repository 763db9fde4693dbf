#include "coordinator/planning/imagined_cluster.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/plan/cluster.h"

namespace penstock {
namespace {

absl::Status CheckRequest(const v1::PlanRequest& request) {
  if (request.workers() == 0) {
    if (request.workers_per_host() == 0 && request.worker_threads() == 0 && request.host_cores() == 0 &&
        request.host_memory_bytes() == 0 && request.shards() == 0) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        "what an imagined cluster's workers are like is given, but not how many there are");
  }
  for (const auto& [count, what] : {std::pair(request.workers(), "workers"), {request.shards(), "shards"}}) {
    if (count <= kImaginedMembersMax) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("a plan for ", count, " ", what, "; at most ", kImaginedMembersMax, " are supported"));
  }
  return absl::OkStatus();
}

void Scale(double factor, v1::ComputeRates* rates) {
  for (v1::ComputeRates::LayerRate& rate : *rates->mutable_layers()) {
    rate.set_forward_flops_per_second(factor * rate.forward_flops_per_second());
    rate.set_backward_flops_per_second(factor * rate.backward_flops_per_second());
    rate.set_attention_forward_flops_per_second(factor * rate.attention_forward_flops_per_second());
    rate.set_attention_backward_flops_per_second(factor * rate.attention_backward_flops_per_second());
  }
  rates->set_head_flops_per_second(factor * rates->head_flops_per_second());
}

// What all of them are like.
v1::MemberInfo ImaginedWorker(const v1::PlanRequest& request, const v1::MemberInfo& first) {
  v1::MemberInfo worker = first;
  if (request.host_cores() > 0) worker.mutable_host()->set_cores(request.host_cores());
  if (request.host_memory_bytes() > 0) worker.mutable_host()->set_memory_bytes(request.host_memory_bytes());
  if (request.worker_threads() == 0) return worker;
  worker.set_threads(request.worker_threads());
  const double factor = static_cast<double>(request.worker_threads()) / std::max(1u, first.threads());
  for (v1::ComputeRates* const rates :
       {worker.mutable_rates()->mutable_fp32(), worker.mutable_rates()->mutable_bf16()}) {
    Scale(factor, rates);
  }
  return worker;
}

}  // namespace

absl::StatusOr<ClusterMembers> Imagine(const v1::PlanRequest& request, const ClusterMembers& registered) {
  if (absl::Status status = CheckRequest(request); !status.ok()) return status;
  if (request.workers() == 0) return registered;
  if (registered.workers.empty()) {
    return absl::FailedPreconditionError("no worker is registered, so nobody knows how fast another one would be");
  }
  const v1::MemberInfo& first = registered.workers[0];
  if (request.worker_threads() > 0 && HasGpu(first)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the workers would be like ", first.id(), ", which computes on a GPU; threads make it no faster"));
  }
  uint32_t per_host = request.workers_per_host();
  if (per_host == 0) {
    per_host = static_cast<uint32_t>(
        std::count_if(registered.workers.begin(), registered.workers.end(),
                      [&](const v1::MemberInfo& other) { return other.host().id() == first.host().id(); }));
  }
  const v1::MemberInfo like = ImaginedWorker(request, first);
  ClusterMembers imagined = {{}, request.shards() == 0 ? registered.shards : std::vector<v1::MemberInfo>()};
  // The first host is the registered one, where its shards are, too.
  const auto host_id = [&](uint32_t host) {
    return host == 0 && !first.host().id().empty() ? first.host().id() : absl::StrCat("imagined host ", host);
  };
  for (uint32_t i = 0; i < request.workers(); ++i) {
    v1::MemberInfo worker = like;
    worker.set_id(absl::StrCat("worker-", i));
    worker.mutable_host()->set_id(host_id(i / per_host));
    imagined.workers.push_back(std::move(worker));
  }
  const uint32_t hosts = (request.workers() + per_host - 1) / per_host;
  for (uint32_t i = 0; i < request.shards(); ++i) {
    v1::MemberInfo shard;
    shard.set_role(v1::MEMBER_ROLE_SHARD);
    shard.set_id(absl::StrCat("params-", i));
    *shard.mutable_host() = like.host();
    shard.mutable_host()->set_id(host_id(i % hosts));
    imagined.shards.push_back(std::move(shard));
  }
  return imagined;
}

}  // namespace penstock
