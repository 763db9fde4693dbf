// How many blocks of threads NCCL may take on a GPU: what a rank's communicators are made with, and what the planner
// counts memory for.
#ifndef PENSTOCK_CORE_PLAN_NCCL_BLOCKS_H_
#define PENSTOCK_CORE_PLAN_NCCL_BLOCKS_H_

namespace penstock {

// A lane's kernels wait on the device for their peer, beside those that compute.
inline constexpr int kNcclLaneBlocksMax = 4;
// NCCL's own 32, where GPUs have NVLink, take 300 MB of the device for each peer in a group.
inline constexpr int kNcclGroupBlocksMax = 16;

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_NCCL_BLOCKS_H_
