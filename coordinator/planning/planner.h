// The coordinator's planner: makes the planner's cluster of the registered members, chooses meshes, and learns from the
// steps of running jobs.
//
// What it has learnt is kept in memory, for each model by itself: a coordinator that restarts begins with what the
// workers measured at registration, and the next job's first steps teach it again. Thread-safe.
#ifndef PENSTOCK_COORDINATOR_PLANNING_PLANNER_H_
#define PENSTOCK_COORDINATOR_PLANNING_PLANNER_H_

#include <cstddef>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/plan/cluster.h"
#include "core/plan/correction.h"
#include "core/plan/plan_search.h"
#include "protos/penstock/v1/coordinator.pb.h"

namespace penstock {

// Models whose corrections are remembered; the ones that were learnt first are forgotten first.
inline constexpr size_t kCorrectedModelsMax = 256;

class Planner {
 public:
  using Members = std::vector<v1::MemberStatus>;

  // The errors of SearchPlan and Imagine; RESOURCE_EXHAUSTED where no worker has the device that the job asks for.
  // `members`: of both roles, in their order; lost ones are left out. Of several kinds of workers (WorkerKind) it plans
  // for one: GPUs before CPUs, of those that are enough for the job.
  absl::StatusOr<FoundPlan> Plan(const v1::PlanRequest& request, const Members& members) const;

  // Makes a job ready to be queued: chooses what its `parallel: auto`, device and placement leave open, and says in
  // a line each what was chosen and why; nothing for what is given. RESOURCE_EXHAUSTED for a job that doesn't fit into
  // memory. A mesh that is given and larger than the cluster is left to the scheduler.
  absl::StatusOr<std::vector<std::string>> Resolve(const Members& members, v1::JobSpec* spec) const;

  // What a step should take on these workers (in rank order) and shards; nullopt for what can't be told.
  std::optional<Prediction> PredictJob(const v1::JobSpec& spec, const std::vector<v1::MemberInfo>& workers,
                                       const std::vector<v1::MemberInfo>& shards) const;
  // Remembers how a prediction of PredictJob came out.
  void Learn(const v1::JobSpec& spec, const Prediction& prediction, const MeasuredStep& measured);

 private:
  static std::string KeyOf(const v1::JobSpec& spec);
  CostCorrection CorrectionFor(const v1::JobSpec& spec) const;

  mutable std::mutex mutex_;
  std::map<std::string, CostCorrection> corrections_ ABSL_GUARDED_BY(mutex_);
  // Keys of corrections_, first learnt first.
  std::deque<std::string> learnt_ ABSL_GUARDED_BY(mutex_);
  // Of the model that was learnt last: what a new one begins with.
  CostCorrection latest_ ABSL_GUARDED_BY(mutex_);
};

// "3 workers with CUDA; placement local: ...", where `spec` left the device or the placement open; else empty.
std::string ChosenText(const v1::JobSpec& spec, const FoundPlan& found);

// The planner's view of members, without corrections. Members without a host are on one of their own.
ClusterProfile MakeCluster(const std::vector<v1::MemberInfo>& workers, const std::vector<v1::MemberInfo>& shards);

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_PLANNING_PLANNER_H_
