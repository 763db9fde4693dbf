#include "coordinator/planning/planner.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "coordinator/planning/imagined_cluster.h"
#include "core/base/status_macros.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"

namespace penstock {
namespace {

// Index of the member's host in the cluster, which is added when it is new.
int HostOf(const v1::MemberInfo& info, std::map<std::string, int>* known, ClusterProfile* cluster) {
  const std::string key = info.host().id().empty() ? absl::StrCat("member ", info.id()) : info.host().id();
  const auto [found, is_new] = known->emplace(key, static_cast<int>(cluster->hosts.size()));
  if (is_new) {
    ClusterHost host;
    host.id = key;
    host.cores = std::max({1u, info.host().cores(), info.host().cores() == 0 ? info.threads() : 0u});
    host.memory_bytes = static_cast<int64_t>(std::min<uint64_t>(info.host().memory_bytes(), INT64_MAX));
    cluster->hosts.push_back(std::move(host));
  }
  return found->second;
}

std::vector<v1::MemberInfo> Living(const Planner::Members& members, v1::MemberRole role) {
  std::vector<v1::MemberInfo> living;
  for (const v1::MemberStatus& member : members) {
    if (member.info().role() == role && member.state() != "LOST") living.push_back(member.info());
  }
  return living;
}

// Those of the one kind that the job gets: of the kinds that it may have the first with enough workers, GPUs before
// CPUs; or else the largest.
absl::StatusOr<std::vector<v1::MemberInfo>> OfOneKind(const std::vector<v1::MemberInfo>& workers,
                                                      const v1::JobSpec& spec) {
  std::vector<std::vector<v1::MemberInfo>> kinds;
  for (const v1::MemberInfo& worker : workers) {
    if (!MayRunOn(worker, spec)) continue;
    auto kind = std::find_if(kinds.begin(), kinds.end(),
                             [&](const auto& other) { return WorkerKind(other[0]) == WorkerKind(worker); });
    if (kind == kinds.end()) kind = kinds.insert(kinds.end(), std::vector<v1::MemberInfo>());
    kind->push_back(worker);
  }
  if (kinds.empty() && !workers.empty()) {
    return absl::ResourceExhaustedError(
        OnGpus(spec) ? "the job wants GPUs (parallel.device: cuda), and no registered worker has one"
                     : "the job wants CPUs (parallel.device: cpu), and all registered workers have GPUs");
  }
  std::stable_sort(kinds.begin(), kinds.end(), [](const auto& a, const auto& b) {
    return std::pair(HasGpu(a[0]), a.size()) > std::pair(HasGpu(b[0]), b.size());
  });
  const size_t wanted = std::max<size_t>(1, spec.parallel().pipeline()) * std::max<size_t>(1, spec.parallel().data()) *
                        std::max<size_t>(1, spec.parallel().tensor());
  const std::vector<v1::MemberInfo>* largest = nullptr;
  for (const std::vector<v1::MemberInfo>& kind : kinds) {
    if (kind.size() >= wanted) return kind;
    if (largest == nullptr || kind.size() > largest->size()) largest = &kind;
  }
  return largest == nullptr ? std::vector<v1::MemberInfo>() : *largest;
}

std::vector<int> Identity(size_t count) {
  std::vector<int> indices(count);
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

}  // namespace

ClusterProfile MakeCluster(const std::vector<v1::MemberInfo>& workers, const std::vector<v1::MemberInfo>& shards) {
  ClusterProfile cluster;
  std::map<std::string, int> hosts;
  for (const v1::MemberInfo& info : workers) {
    ClusterWorker worker;
    worker.id = info.id();
    worker.host = HostOf(info, &hosts, &cluster);
    worker.threads = static_cast<int>(std::clamp(info.threads(), 1u, 4096u));
    if (HasGpu(info)) {
      const v1::DeviceInfo& device = info.device_info();
      // Processes that are shown one card each, by CUDA_VISIBLE_DEVICES, all call it cuda:0.
      worker.gpu = device.uuid().empty() ? info.device() : device.uuid();
      worker.gpu_bytes = static_cast<int64_t>(std::min<uint64_t>(device.memory_bytes(), INT64_MAX));
      worker.gpu_link_bytes_per_second =
          std::min(device.host_to_device_bytes_per_second(), device.device_to_host_bytes_per_second());
    }
    worker.rates = info.rates();
    cluster.workers.push_back(std::move(worker));
  }
  for (const v1::MemberInfo& info : shards) cluster.shard_hosts.push_back(HostOf(info, &hosts, &cluster));
  return cluster;
}

// What decides how far the cost model is off: the model, what is computed of it at once, and who updates it.
std::string Planner::KeyOf(const v1::JobSpec& spec) {
  return absl::StrCat(spec.model().SerializeAsString(), "/", static_cast<int>(spec.training().precision()), "/",
                      spec.training().micro_batch_size(), "/",
                      IsOffloaded(spec)      ? "offloaded"
                      : UpdatesLocally(spec) ? "local"
                                             : "service");
}

CostCorrection Planner::CorrectionFor(const v1::JobSpec& spec) const {
  std::lock_guard lock(mutex_);
  const auto found = corrections_.find(KeyOf(spec));
  return found == corrections_.end() ? latest_ : found->second;
}

absl::StatusOr<FoundPlan> Planner::Plan(const v1::PlanRequest& request, const Members& members) const {
  ClusterMembers registered = {{}, Living(members, v1::MEMBER_ROLE_SHARD)};
  PENSTOCK_ASSIGN_OR_RETURN(registered.workers, OfOneKind(Living(members, v1::MEMBER_ROLE_WORKER), request.spec()));
  PENSTOCK_ASSIGN_OR_RETURN(const ClusterMembers planned_for, Imagine(request, registered));
  ClusterProfile cluster = MakeCluster(planned_for.workers, planned_for.shards);
  cluster.correction = CorrectionFor(request.spec());
  return SearchPlan(request.spec(), cluster, request.alternatives());
}

std::string ChosenText(const v1::JobSpec& spec, const FoundPlan& found) {
  std::vector<std::string> chosen;
  if (spec.parallel().device() == v1::ParallelSpec::DEVICE_AUTO) {
    chosen.push_back(OnGpus(found.spec) ? "device cuda" : "device cpu");
  }
  if (!found.placement_reason.empty()) chosen.push_back(found.placement_reason);
  return absl::StrJoin(chosen, "; ");
}

absl::StatusOr<std::vector<std::string>> Planner::Resolve(const Members& members, v1::JobSpec* spec) const {
  const bool open = spec->parallel().plan() == v1::ParallelSpec::PLAN_AUTO;
  v1::PlanRequest request;
  *request.mutable_spec() = *spec;
  if (!open) {
    PENSTOCK_ASSIGN_OR_RETURN(const auto workers, OfOneKind(Living(members, v1::MEMBER_ROLE_WORKER), *spec));
    if (static_cast<size_t>(WorldSize(*spec)) > workers.size()) {
      // Any kind may be the one that comes; the service suits all.
      if (spec->parallel().zero().placement() == v1::ZeroSpec::PLACEMENT_AUTO) {
        spec->mutable_parallel()->mutable_zero()->set_placement(v1::ZeroSpec::PLACEMENT_SERVICE);
      }
      return std::vector<std::string>();
    }
  }
  PENSTOCK_ASSIGN_OR_RETURN(const FoundPlan found, Plan(request, members));
  std::vector<std::string> chosen;
  if (open) {
    const v1::MeshDegrees& mesh = found.plan.mesh();
    chosen.push_back(
        absl::StrFormat("planned: pipeline %d x data %d x tensor %d, %s, micro-batch %d, %.3g s a step: %s",
                        mesh.pipeline(), mesh.data(), mesh.tensor(), ScheduleKindName(ScheduleKindOf(found.spec)),
                        found.plan.micro_batch_size(), found.plan.step_seconds(), found.plan.reason()));
  }
  if (std::string text = ChosenText(*spec, found); !text.empty()) chosen.push_back(absl::StrCat("chosen: ", text));
  *spec = found.spec;
  return chosen;
}

std::optional<Prediction> Planner::PredictJob(const v1::JobSpec& spec, const std::vector<v1::MemberInfo>& workers,
                                              const std::vector<v1::MemberInfo>& shards) const {
  if (static_cast<size_t>(WorldSize(spec)) != workers.size()) return std::nullopt;
  // Nobody has measured them: what could be said would be about another machine.
  for (const v1::MemberInfo& worker : workers) {
    if (worker.rates().fp32().layers_size() == 0) return std::nullopt;
  }
  ClusterProfile cluster = MakeCluster(workers, shards);
  // A job that runs has its memory.
  for (ClusterHost& host : cluster.hosts) host.memory_bytes = 0;
  for (ClusterWorker& worker : cluster.workers) worker.gpu_bytes = 0;
  cluster.correction = CorrectionFor(spec);
  absl::StatusOr<Prediction> prediction = Predict(spec, cluster, Identity(workers.size()));
  if (!prediction.ok()) return std::nullopt;
  prediction->correction = cluster.correction;
  return *std::move(prediction);
}

void Planner::Learn(const v1::JobSpec& spec, const Prediction& prediction, const MeasuredStep& measured) {
  // The sums of a tensor group are a part of its passes, which can't be told apart; other meshes have none.
  if (spec.parallel().tensor() > 1) return;
  const CostCorrection corrected = Corrected(prediction, prediction.correction, measured);
  std::lock_guard lock(mutex_);
  latest_ = corrected;
  const auto [found, is_new] = corrections_.insert_or_assign(KeyOf(spec), corrected);
  if (!is_new) return;
  learnt_.push_back(found->first);
  if (learnt_.size() <= kCorrectedModelsMax) return;
  corrections_.erase(learnt_.front());
  learnt_.pop_front();
}

}  // namespace penstock
