// The loss curves of one job or of several as an SVG picture: training loss of every step, its moving average, and the
// validation losses. Pure; the text is complete and stands alone (no script, no external font).
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

struct PlotCurve {
  // In the legend, where there are several.
  std::string name;
  std::vector<v1::StepRecord> records;
};

// More can't be told apart.
inline constexpr size_t kPlotCurvesMax = 16;

// One job has colours for what is drawn (each step, average, validation); several jobs have a colour each.
// NOT_FOUND when a job has no finite loss to draw, INVALID_ARGUMENT for no curve or too many.
absl::StatusOr<std::string> PlotLossCurves(const std::vector<PlotCurve>& curves, const PlotOptions& options);

// About `count` round values (1, 2 or 5 times a power of ten apart) that cover [low, high].
std::vector<double> RoundTicks(double low, double high, int count);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CLIENT_PLOT_H_
