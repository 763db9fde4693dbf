// A plan as penstockctl prints it: text for people, JSON for programs. Pure functions.
#ifndef PENSTOCK_SERVICES_CLIENT_PLAN_OUTPUT_H_
#define PENSTOCK_SERVICES_CLIENT_PLAN_OUTPUT_H_

#include <string>

#include "protos/penstock/v1/coordinator.pb.h"
#include "services/client/output.h"

namespace penstock {

// {"mesh": {...}, "stages": [...], "workers": [...], "step_seconds": ..., "bubble_ratio": ..., ...}; with `compared` an
// array "alternatives" of the same, without their workers.
Json PlanJson(const v1::PlanResponse& response, bool compared);
// Several lines and tables.
std::string DescribePlan(const v1::PlanResponse& response);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CLIENT_PLAN_OUTPUT_H_
