// A job's loss curve as an SVG picture: training loss of every step, its moving average, and the validation losses.
// Pure; the text is complete and stands alone (no script, no external font).
#ifndef PENSTOCK_SERVICES_CLIENT_PLOT_H_
#define PENSTOCK_SERVICES_CLIENT_PLOT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "protos/penstock/v1/step.pb.h"

namespace penstock {

struct PlotOptions {
  std::string title;
  int width = 900;
  int height = 480;
};

// NOT_FOUND when there is no finite loss to draw.
absl::StatusOr<std::string> PlotLossCurve(const std::vector<v1::StepRecord>& records, const PlotOptions& options);

// About `count` round values (1, 2 or 5 times a power of ten apart) that cover [low, high].
std::vector<double> RoundTicks(double low, double high, int count);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CLIENT_PLOT_H_
