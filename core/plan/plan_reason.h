// Why a mesh is fast or slow, in words. Pure.
#ifndef PENSTOCK_CORE_PLAN_PLAN_REASON_H_
#define PENSTOCK_CORE_PLAN_PLAN_REASON_H_

#include <string>

#include "core/plan/cluster.h"
#include "core/plan/prediction.h"

namespace penstock {

// One sentence for each axis that is used: what it costs, and when it pays off.
std::string ReasonOf(const Prediction& prediction, const ClusterProfile& cluster);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_PLAN_REASON_H_
