#ifndef PENSTOCK_CORE_COMMIT_JOB_STATE_H_
#define PENSTOCK_CORE_COMMIT_JOB_STATE_H_

#include "protos/penstock/v1/coordinator.pb.h"

namespace penstock {

// The state is the job's last.
inline bool IsEnded(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED || state == v1::JOB_STATE_CANCELLED;
}

}  // namespace penstock

#endif  // PENSTOCK_CORE_COMMIT_JOB_STATE_H_
