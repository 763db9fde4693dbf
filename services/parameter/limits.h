// The parameter service's named limits.
#ifndef PENSTOCK_SERVICES_PARAMETER_LIMITS_H_
#define PENSTOCK_SERVICES_PARAMETER_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace penstock {

// Elements in a chunk that we send: 1 MiB of fp32. Big enough that the frame's costs vanish, small enough that a chunk
// stays in a core's cache while it is copied and checked.
inline constexpr int64_t kChunkElements = 256 * 1024;
// Payload of a chunk that we take.
inline constexpr size_t kChunkBytesMax = 4 << 20;
// A chunk's fields before the payload.
inline constexpr size_t kFrameHeaderBytesMax = 4096;
inline constexpr size_t kJobIdBytesMax = 128;
// Ranges in one Pull.
inline constexpr int kPullRangesMax = 65536;

inline constexpr int kJobsMax = 64;
inline constexpr int kPushStreamsMax = 512;
inline constexpr int kPullStreamsMax = 512;
// Calls of one job that wait for its state to change.
inline constexpr int kWaitersMax = 1024;
inline constexpr int kShardsMax = 4096;

// A call that waits ends with DEADLINE_EXCEEDED after this, whatever its own deadline; the caller asks again.
inline constexpr absl::Duration kWaitMax = absl::Seconds(60);
// A stream that makes no progress for so long is ended.
inline constexpr absl::Duration kStreamIdleMax = absl::Seconds(120);
// Closing a job waits so long for data work under way.
inline constexpr absl::Duration kCloseWaitMax = absl::Seconds(30);

// Records of committed steps that a shard keeps.
inline constexpr size_t kStepRecordsMax = 4096;
// Sets of digests that a shard keeps.
inline constexpr size_t kDigestSetsMax = 16;
// Closed jobs whose epoch is remembered, so that a late OpenJob of an older one is refused.
inline constexpr size_t kClosedJobsMax = 1024;

// Threads for calls that do data work (updates, digests) and for those that take long (open, close, checkpoint).
inline constexpr int kUpdateThreads = 2;
inline constexpr int kLongThreads = 4;
inline constexpr size_t kTasksMax = 1024;

static_assert(kChunkElements * sizeof(float) <= kChunkBytesMax, "we take what we send");
static_assert(kStreamIdleMax > kWaitMax, "a waiting pull is not an idle one");

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_LIMITS_H_
