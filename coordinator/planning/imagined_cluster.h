// A cluster that isn't there yet, made of what is known of one that is: so that a plan can be seen before machines are
// rented. Pure.
#ifndef PENSTOCK_COORDINATOR_PLANNING_IMAGINED_CLUSTER_H_
#define PENSTOCK_COORDINATOR_PLANNING_IMAGINED_CLUSTER_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "protos/penstock/v1/coordinator.pb.h"

namespace penstock {

// Of workers, and of shards.
inline constexpr uint32_t kImaginedMembersMax = 4096;

struct ClusterMembers {
  std::vector<v1::MemberInfo> workers;
  std::vector<v1::MemberInfo> shards;
};

// What the request asks for: `registered` itself, or request.workers() workers like the first one but for what it says
// of them. FAILED_PRECONDITION where no worker is registered that others could be like; INVALID_ARGUMENT for too many,
// for details of workers whose number isn't given, and for threads of those that compute on GPUs.
absl::StatusOr<ClusterMembers> Imagine(const v1::PlanRequest& request, const ClusterMembers& registered);

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_PLANNING_IMAGINED_CLUSTER_H_
