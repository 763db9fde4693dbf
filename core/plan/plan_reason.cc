#include "core/plan/plan_reason.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace penstock {
namespace {

// From this share of a step on a cost is worth a word of advice.
constexpr double kMuch = 0.2;

std::string Percent(double share) { return absl::StrCat(static_cast<int>(std::lround(100 * share)), "%"); }

std::string DataReason(const Prediction& prediction, int data) {
  const double share = prediction.costs.data_seconds / prediction.plan.step_seconds();
  return absl::StrCat(data, " replicas exchange ", GigabytesText(prediction.costs.data_bytes), " a rank and step, ",
                      Percent(share), " of its time: ",
                      share < kMuch ? "little model for its batch, which is what data parallelism is good at"
                                    : "much model for its batch; a larger global batch would pay better");
}

std::string TensorReason(const Prediction& prediction, int tensor) {
  const double share = prediction.costs.tensor_seconds / prediction.plan.step_seconds();
  return absl::StrCat("each layer is split ", tensor, " ways, with sums that take ", Percent(share), " of the step: ",
                      share < kMuch ? "the layers are large enough to split" : "it would pay for larger layers");
}

std::string PipelineReason(const Prediction& prediction, int pipeline) {
  const v1::MeshPlan& plan = prediction.plan;
  std::vector<std::string> layers;
  for (const v1::StagePlan& stage : plan.stages()) layers.push_back(absl::StrCat(stage.layers()));
  return absl::StrCat(pipeline, " stages of ", absl::StrJoin(layers, "+"), " layers, bubble ",
                      Percent(plan.bubble_ratio()), " with ", plan.micro_batches(),
                      plan.micro_batches() == 1 ? " micro-batch" : " micro-batches", ": ",
                      plan.bubble_ratio() < kMuch ? "many layers, and each rank holds only its own"
                                                  : "more micro-batches would fill it");
}

// Threads beyond the cores of the most crowded host.
std::string CrowdReason(const Prediction& prediction, const ClusterProfile& cluster) {
  std::map<std::string, const ClusterWorker*> workers;
  for (const ClusterWorker& worker : cluster.workers) workers[worker.id] = &worker;
  std::map<int, int> threads;
  for (const v1::RankPlanBytes& rank : prediction.plan.ranks()) {
    const ClusterWorker& worker = *workers.at(rank.worker_id());
    threads[worker.host] += worker.threads;
  }
  for (const auto& [host, wanted] : threads) {
    const double there = cluster.hosts[static_cast<size_t>(host)].cores;
    if (wanted > there) return absl::StrCat(wanted, " threads share ", there, there == 1 ? " core" : " cores");
  }
  return "";
}

// The mirror takes the whole step, or all but rounding of it.
bool WaitsForMirror(const Prediction& prediction) {
  const std::optional<StageCosts>& mirror = prediction.costs.mirror;
  return mirror.has_value() && mirror->forward_seconds >= 0.99 * prediction.plan.step_seconds();
}

}  // namespace

std::string ReasonOf(const Prediction& prediction, const ClusterProfile& cluster) {
  const v1::MeshDegrees& mesh = prediction.plan.mesh();
  std::vector<std::string> reasons;
  if (mesh.data() > 1) reasons.push_back(DataReason(prediction, static_cast<int>(mesh.data())));
  if (mesh.tensor() > 1) reasons.push_back(TensorReason(prediction, static_cast<int>(mesh.tensor())));
  if (mesh.pipeline() > 1) reasons.push_back(PipelineReason(prediction, static_cast<int>(mesh.pipeline())));
  if (reasons.empty()) reasons.push_back("one worker has nothing to exchange but with the parameter service");
  const double service = prediction.costs.service_seconds / prediction.plan.step_seconds();
  if (service >= kMuch) {
    reasons.push_back(absl::StrCat("the parameter service takes ", Percent(service), " of the step"));
  }
  if (WaitsForMirror(prediction)) {
    reasons.push_back("its ranks wait for the mirror; more parameter shards or `mirror: off` would make it faster");
  }
  if (std::string crowd = CrowdReason(prediction, cluster); !crowd.empty()) reasons.push_back(std::move(crowd));
  return absl::StrJoin(reasons, "; ");
}

}  // namespace penstock
