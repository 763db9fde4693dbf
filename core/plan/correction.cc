#include "core/plan/correction.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace penstock {
namespace {

// Whether passes of different ranks wait for each other's cores. How they share them is the machine's affair, and says
// nothing of what a pass costs.
bool SharesCores(const SimulationInput& simulation) {
  std::vector<double> wanted(simulation.host_cores.size());
  for (const StageCosts& stage : simulation.stages) {
    for (const HostLoad& load : stage.loads) wanted[static_cast<size_t>(load.host)] += load.cores;
  }
  for (size_t host = 0; host < wanted.size(); ++host) {
    if (wanted[host] > simulation.host_cores[host]) return true;
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
      SharesCores(prediction.costs.simulation)) {
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
