#include "core/plan/correction.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace penstock {
namespace {

// Whether passes wait for other ranks' or the mirror's cores. How they share them is the machine's affair, and says
// nothing of what a pass costs.
bool SharesCores(const StepCosts& costs) {
  const std::vector<double>& cores = costs.simulation.host_cores;
  std::vector<double> wanted(cores.size());
  for (const StageCosts& stage : costs.simulation.stages) {
    for (const HostLoad& load : stage.loads) wanted[static_cast<size_t>(load.host)] += load.cores;
  }
  if (costs.mirror.has_value()) {
    for (const HostLoad& load : costs.mirror->loads) wanted[static_cast<size_t>(load.host)] += load.cores;
  }
  for (size_t host = 0; host < wanted.size(); ++host) {
    if (wanted[host] > cores[host]) return true;
  }
  return false;
}

double Clamped(double factor) { return std::clamp(factor, 1 / kCorrectionMax, kCorrectionMax); }

}  // namespace

CostCorrection Corrected(const Prediction& prediction, const CostCorrection& used, const MeasuredStep& measured) {
  const double predicted_compute = prediction.leader_compute_seconds;
  const double predicted_exchange = prediction.leader_exchange_seconds;
  if (!(measured.step_seconds > 0) || !(measured.compute_seconds > 0) || !std::isfinite(measured.step_seconds) ||
      !std::isfinite(measured.compute_seconds) || !(predicted_compute > 0) || !(predicted_exchange > 0) ||
      SharesCores(prediction.costs)) {
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
