// Learns from steps what the cost model gets wrong. Pure.
#ifndef PENSTOCK_CORE_PLAN_CORRECTION_H_
#define PENSTOCK_CORE_PLAN_CORRECTION_H_

#include "core/plan/cluster.h"
#include "core/plan/prediction.h"

namespace penstock {

// What the leader measured, of a typical step.
struct MeasuredStep {
  double step_seconds = 0;
  // In its stage's passes.
  double compute_seconds = 0;
};

// Factors are kept within [1 / kCorrectionMax, kCorrectionMax]: what is beyond is a disturbance, not a cost.
inline constexpr double kCorrectionMax = 4;

// The factors under which `prediction`, which was made with `used`, would have come out as measured: passes by their
// own time, the exchange halfway (in ratio) towards what is left of the step once passes and bubble are taken off.
// `used` where nothing was measured, or where ranks share cores.
CostCorrection Corrected(const Prediction& prediction, const CostCorrection& used, const MeasuredStep& measured);

}  // namespace penstock

#endif  // PENSTOCK_CORE_PLAN_CORRECTION_H_
