// Chooses a job's mesh: tries the meshes that the cluster's workers allow and takes the fastest that fits.
//
// Pure and deterministic: the same job and cluster give the same plan. Which combinations are sound is asked of
// CheckJob alone. Meshes that are predicted nearly alike count as equally fast, and the simplest of them wins (fewest
// workers, then least tensor, then least pipeline), so that small errors of measuring don't change a job's degrees.
#ifndef PENSTOCK_CORE_PLAN_PLAN_SEARCH_H_
#define PENSTOCK_CORE_PLAN_PLAN_SEARCH_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/plan/cluster.h"
#include "core/plan/prediction.h"
#include "protos/penstock/v1/coordinator.pb.h"
#include "protos/penstock/v1/job.pb.h"

namespace penstock {

// Predicted times within this factor of the fastest are taken for equal.
inline constexpr double kEquallyFast = 1.02;
// Meshes that are simulated; those that a bound says are slower aren't.
inline constexpr int kSimulatedMax = 256;
// Others shown beside the chosen one.
inline constexpr uint32_t kAlternativesMax = 32;

struct FoundPlan {
  // Resolved: degrees, schedule, micro-batch size, device and placement are given, plan is cleared.
  v1::JobSpec spec;
  // Where the job left its placement open: what was chosen, and why. Empty otherwise.
  std::string placement_reason;
  v1::MeshPlan plan;
  // The fastest others, one for each mesh, each with its reason.
  std::vector<v1::MeshPlan> alternatives;
};

// `zero.placement: auto` becomes `local` with the mirror on GPUs, where a way through the service would take longer
// than a step's passes, and `service` where that doesn't fit, and on CPUs, where the service computes beside the ranks
// and their memory is spared. No result depends on it.
//
// `spec` has its defaults and is sound, and its workers are of the cluster's kind. With parallel.plan AUTO what the
// user left open is searched; otherwise there is one candidate, and alternatives are searched as if all degrees and the
// schedule were open.
//   FAILED_PRECONDITION: the cluster has no worker.
//   RESOURCE_EXHAUSTED: the job wants more workers than there are, or more memory than they have: with the smallest
//   change that would do.
//   INVALID_ARGUMENT: no combination is sound, with what CheckJob says of the simplest one.
absl::StatusOr<FoundPlan> SearchPlan(const v1::JobSpec& spec, const ClusterProfile& cluster, uint32_t alternatives);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_PLAN_SEARCH_H_
