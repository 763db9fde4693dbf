#include "services/client/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace penstock {
namespace {

constexpr int kMarginLeft = 64;
constexpr int kMarginRight = 24;
constexpr int kMarginTop = 48;
constexpr int kMarginBottom = 52;
constexpr char kTrainColor[] = "#9db8d9";
constexpr char kAverageColor[] = "#1f5fa8";
constexpr char kValidationColor[] = "#d1495b";
// Of the moving average: so many steps on either side of each point, as a share of all steps.
constexpr double kAverageReach = 0.02;

struct Point {
  double x;
  double y;
};

// Maps steps and losses to the picture's coordinates.
struct Axes {
  double x_low, x_high, y_low, y_high;
  int width, height;

  Point At(const Point& p) const {
    const double w = width - kMarginLeft - kMarginRight;
    const double h = height - kMarginTop - kMarginBottom;
    return {kMarginLeft + w * (p.x - x_low) / (x_high - x_low), kMarginTop + h * (y_high - p.y) / (y_high - y_low)};
  }
};

std::string Escape(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

// The mean over the neighbours on both sides, as many on the left as on the right, so that it doesn't lag behind.
std::vector<Point> MovingAverage(const std::vector<Point>& points) {
  const int64_t count = static_cast<int64_t>(points.size());
  const int64_t reach_max = std::max<int64_t>(1, std::llround(kAverageReach * static_cast<double>(count)));
  std::vector<Point> average = points;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t reach = std::min({reach_max, i, count - 1 - i});
    double sum = 0;
    for (int64_t j = i - reach; j <= i + reach; ++j) sum += points[j].y;
    average[i].y = sum / static_cast<double>(2 * reach + 1);
  }
  return average;
}

std::string Polyline(const std::vector<Point>& points, const Axes& axes, const char* color, double width) {
  std::string text =
      absl::StrFormat("<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%.1f\" points=\"", color, width);
  for (const Point& point : points) {
    Point at = axes.At(point);
    absl::StrAppendFormat(&text, "%.1f,%.1f ", at.x, at.y);
  }
  return absl::StrCat(text, "\"/>\n");
}

std::string Text(double x, double y, const char* anchor, const std::string& text, int size = 12) {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%d\">%s</text>\n", x, y, anchor,
                         size, Escape(text));
}

std::string Grid(const Axes& axes) {
  std::string svg;
  const double bottom = axes.height - kMarginBottom;
  const double right = axes.width - kMarginRight;
  for (double y : RoundTicks(axes.y_low, axes.y_high, 6)) {
    const double at = axes.At({axes.x_low, y}).y;
    absl::StrAppendFormat(&svg, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#e3e3e3\"/>\n",
                          kMarginLeft, at, right, at);
    absl::StrAppend(&svg, Text(kMarginLeft - 8, at + 4, "end", absl::StrFormat("%.4g", y)));
  }
  for (double x : RoundTicks(axes.x_low, axes.x_high, 8)) {
    const double at = axes.At({x, axes.y_low}).x;
    absl::StrAppendFormat(&svg, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#999\"/>\n", at, bottom,
                          at, bottom + 5);
    absl::StrAppend(&svg, Text(at, bottom + 19, "middle", absl::StrFormat("%.6g", x)));
  }
  absl::StrAppendFormat(&svg, "<path d=\"M%d %d V%.1f H%.1f\" fill=\"none\" stroke=\"#999\"/>\n", kMarginLeft,
                        kMarginTop, bottom, right);
  absl::StrAppend(&svg, Text((kMarginLeft + right) / 2, axes.height - 12, "middle", "step"));
  absl::StrAppendFormat(&svg,
                        "<text transform=\"translate(18 %.1f) rotate(-90)\" text-anchor=\"middle\" font-size=\"12\">"
                        "loss (nats per token)</text>\n",
                        (kMarginTop + bottom) / 2);
  return svg;
}

std::string LegendEntry(double x, const char* color, const std::string& name) {
  return absl::StrCat(absl::StrFormat("<rect x=\"%.1f\" y=\"34\" width=\"16\" height=\"3\" fill=\"%s\"/>\n", x, color),
                      Text(x + 21, 40, "start", name));
}

}  // namespace

std::vector<double> RoundTicks(double low, double high, int count) {
  const double raw = (high - low) / std::max(1, count);
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= raw * (1 - 1e-9)) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) ticks.push_back(i * step);
  return ticks;
}

absl::StatusOr<std::string> PlotLossCurve(const std::vector<v1::StepRecord>& records, const PlotOptions& options) {
  std::vector<Point> train;
  std::vector<Point> validation;
  for (const v1::StepRecord& record : records) {
    const double step = static_cast<double>(record.step());
    if (std::isfinite(record.loss())) train.push_back({step, record.loss()});
    if (record.has_validation_loss() && std::isfinite(record.validation_loss())) {
      validation.push_back({step, record.validation_loss()});
    }
  }
  if (train.empty()) return absl::NotFoundError("there is no step with a loss to draw yet");
  Axes axes{train.front().x, train.back().x, train.front().y, train.front().y, options.width, options.height};
  for (const auto* points : {&train, &validation}) {
    for (const Point& point : *points) {
      axes.y_low = std::min(axes.y_low, point.y);
      axes.y_high = std::max(axes.y_high, point.y);
    }
  }
  // A curve of one point, or a flat one, still needs an area.
  if (axes.x_high - axes.x_low < 1) axes.x_high = axes.x_low + 1;
  const double slack = std::max(0.04 * (axes.y_high - axes.y_low), 1e-3 * std::max(1.0, std::abs(axes.y_high)));
  axes.y_low -= slack;
  axes.y_high += slack;

  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
      "font-family=\"sans-serif\" fill=\"#333\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      options.width, options.height, options.width, options.height);
  absl::StrAppend(&svg, Text(kMarginLeft, 22, "start", options.title, 15));
  absl::StrAppend(&svg, LegendEntry(kMarginLeft, kTrainColor, "each step"),
                  LegendEntry(kMarginLeft + 110, kAverageColor, "moving average"));
  if (!validation.empty()) absl::StrAppend(&svg, LegendEntry(kMarginLeft + 250, kValidationColor, "validation"));
  absl::StrAppend(&svg, Grid(axes), Polyline(train, axes, kTrainColor, 1.0),
                  Polyline(MovingAverage(train), axes, kAverageColor, 2.0));
  if (!validation.empty()) {
    absl::StrAppend(&svg, Polyline(validation, axes, kValidationColor, 2.0));
    for (const Point& point : validation) {
      Point at = axes.At(point);
      absl::StrAppendFormat(&svg, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", at.x, at.y,
                            kValidationColor);
    }
  }
  return absl::StrCat(svg, "</svg>\n");
}

}  // namespace penstock
