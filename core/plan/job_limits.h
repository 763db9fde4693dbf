// The largest numbers that a job may ask for. As with core/model/model_limits.h the point is that no arithmetic on them
// overflows and that a typing error is refused early, by name.
#ifndef PENSTOCK_CORE_PLAN_JOB_LIMITS_H_
#define PENSTOCK_CORE_PLAN_JOB_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace penstock {

inline constexpr size_t kJobNameBytesMax = 63;
// PATH_MAX of Linux.
inline constexpr size_t kPathBytesMax = 4096;
inline constexpr uint64_t kStepsMax = uint64_t{1} << 40;
inline constexpr uint32_t kGlobalBatchMax = 1u << 20;
inline constexpr uint32_t kMicroBatchMax = 1u << 16;
inline constexpr uint32_t kDataDegreeMax = 4096;
inline constexpr uint32_t kPipelineDegreeMax = 1024;
inline constexpr uint32_t kTensorDegreeMax = 1024;
inline constexpr uint32_t kWorkersMax = 4096;
inline constexpr uint32_t kShardsMax = 4096;
// Each is a copy of the gradients that a rank owns.
inline constexpr uint32_t kMirrorLagMax = 64;
inline constexpr uint32_t kCheckpointsKeptMax = 1u << 20;
// Stages times micro-batches: every rank builds the whole schedule, about six instructions for each.
inline constexpr uint64_t kScheduleCellsMax = uint64_t{1} << 20;
// Activations of one micro-batch in one block.
inline constexpr double kActivationBytesMax = 0x1p50;

// Sample indices of a job fit 64 bits.
static_assert(kStepsMax <= UINT64_MAX / kGlobalBatchMax);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_JOB_LIMITS_H_
