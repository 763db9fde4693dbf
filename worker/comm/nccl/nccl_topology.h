// Which NCCL communicators a rank's plan needs. Plain data: it is made, and tested, on machines without CUDA.
//
// NCCL has no tags: what one rank sends another through a communicator is received in the order in which it was sent,
// and an operation that waits for its peer holds up whatever was given to the same communicator after it. So messages
// go through lanes: one communicator of two ranks for each (from, to, channel), where the channel is the tag's upper
// byte. Within a lane a receiver must post its receives in the order of the sends; lanes don't wait for each other.
//
// Schedules satisfy this: activations, gradients and the tied gradient have channels of their own, sends start in the
// order of the sender's list and receives are posted in the order of the receiver's (worker/runtime/message_lane.h),
// and the two orders agree, for otherwise the schedule would be stuck where sends wait for their receivers, which
// ValidateSchedule refuses.
#ifndef PENSTOCK_WORKER_COMM_NCCL_NCCL_TOPOLOGY_H_
#define PENSTOCK_WORKER_COMM_NCCL_NCCL_TOPOLOGY_H_

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/comm/communicator.h"

namespace penstock {

constexpr uint32_t ChannelOf(Tag tag) { return tag >> 24; }

// Ranks are the epoch's.
struct NcclLane {
  int from = 0;
  int to = 0;
  uint32_t channel = 0;

  friend auto operator<=>(const NcclLane&, const NcclLane&) = default;
};

struct NcclTopology {
  // Those that this rank sends or receives on.
  std::vector<NcclLane> lanes;
  // The groups of this rank's collectives, in the order of the group's indices.
  std::vector<std::vector<int>> groups;
};

// The rendezvous' keys of a lane's and a group's ncclUniqueId. Each of their members computes the same one.
inline std::string NcclKey(const NcclLane& lane) {
  return absl::StrCat("nccl/lane/", lane.from, "-", lane.to, "-", lane.channel);
}
inline std::string NcclKey(const std::vector<int>& group) {
  return absl::StrCat("nccl/group/", absl::StrJoin(group, "-"));
}

}  // namespace penstock

#endif  // PENSTOCK_WORKER_COMM_NCCL_NCCL_TOPOLOGY_H_
