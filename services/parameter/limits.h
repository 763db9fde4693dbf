// The parameter service's named limits.
#ifndef PENSTOCK_SERVICES_PARAMETER_LIMITS_H_
#define PENSTOCK_SERVICES_PARAMETER_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
#include "services/base/limits.h"

namespace penstock {

// Elements in a chunk: big enough that the frame's costs vanish, small enough that a chunk stays in a core's cache
// while it is copied and checked.
inline constexpr int64_t kChunkElements = kChunkBytesMax / sizeof(float);
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
// A stream that lasts longer is ended; the caller goes on with another.
inline constexpr absl::Duration kStreamMax = absl::Minutes(10);
// An OpenJob waits so long for the same one that is under way.
inline constexpr absl::Duration kOpenWaitMax = absl::Minutes(10);
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

static_assert(kStreamMax > kWaitMax, "a pull may wait as long as any other call");

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_LIMITS_H_
