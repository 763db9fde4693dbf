#include "core/plan/correction.h"

#include <algorithm>
#include <cmath>

namespace penstock {
namespace {

double Clamped(double factor) { return std::clamp(factor, 1 / kCorrectionMax, kCorrectionMax); }

}  // namespace

CostCorrection Corrected(const Prediction& prediction, const CostCorrection& used, const MeasuredStep& measured) {
  const double predicted_compute = prediction.leader_compute_seconds;
  const double predicted_exchange = prediction.leader_exchange_seconds;
  if (!(measured.step_seconds > 0) || !(measured.compute_seconds > 0) || !std::isfinite(measured.step_seconds) ||
      !std::isfinite(measured.compute_seconds) || !(predicted_compute > 0) || !(predicted_exchange > 0)) {
    return used;
  }
  const double compute = measured.compute_seconds / predicted_compute;
  // The bubble is made of passes, so it grows with them.
  const double passes_and_bubble = compute * (prediction.plan.step_seconds() - predicted_exchange);
  const double exchange = (measured.step_seconds - passes_and_bubble) / predicted_exchange;
  // The difference of two long times says less than either: half of it is believed.
  const double believed = std::sqrt(std::max(exchange, 1 / kCorrectionMax));
  return {Clamped(used.compute * compute), Clamped(used.exchange * believed)};
}

}  // namespace penstock
