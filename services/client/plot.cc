#include "services/client/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

constexpr int kMarginLeft = 64;
constexpr int kMarginRight = 24;
constexpr int kTitleBaseline = 22;
constexpr int kLegendTop = 30;
constexpr int kLegendRow = 18;
constexpr int kMarginBottom = 52;
// Of a character in the legend, about: without the font there is no better.
constexpr double kCharacterWidth = 6.8;
constexpr double kLegendGap = 45;
constexpr size_t kLegendCharactersMax = 40;

// How a curve's three parts are drawn.
struct Style {
  const char* steps;
  const char* average;
  const char* validation;
  double steps_opacity;
  // Of the average; empty for a solid line.
  const char* dashes;
};
constexpr Style kSingleStyle = {"#9db8d9", "#1f5fa8", "#d1495b", 1.0, ""};
// Told apart by people who see few colours, too (after Okabe and Ito); from the ninth curve on with dashes.
constexpr const char* kColors[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                   "#e69f00", "#56b4e9", "#7a5195", "#444444"};
constexpr size_t kColorCount = std::size(kColors);
static_assert(kPlotCurvesMax <= 2 * kColorCount);

// Of the moving average: so many steps on either side of each point, as a share of all steps.
constexpr double kAverageReach = 0.02;

struct Point {
  double x;
  double y;
};

// Maps steps and losses to the picture's coordinates.
struct Axes {
  double x_low, x_high, y_low, y_high;
  int width, height, top;

  Point At(const Point& p) const {
    const double w = width - kMarginLeft - kMarginRight;
    const double h = height - top - kMarginBottom;
    return {kMarginLeft + w * (p.x - x_low) / (x_high - x_low), top + h * (y_high - p.y) / (y_high - y_low)};
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

std::string Polyline(const std::vector<Point>& points, const Axes& axes, const char* color, double width,
                     double opacity = 1.0, const char* dashes = "") {
  std::string text = absl::StrFormat("<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%.1f\"", color, width);
  if (opacity < 1) absl::StrAppendFormat(&text, " stroke-opacity=\"%.2f\"", opacity);
  if (*dashes != '\0') absl::StrAppendFormat(&text, " stroke-dasharray=\"%s\"", dashes);
  absl::StrAppend(&text, " points=\"");
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
  absl::StrAppendFormat(&svg, "<path d=\"M%d %d V%.1f H%.1f\" fill=\"none\" stroke=\"#999\"/>\n", kMarginLeft, axes.top,
                        bottom, right);
  absl::StrAppend(&svg, Text((kMarginLeft + right) / 2, axes.height - 12, "middle", "step"));
  absl::StrAppendFormat(&svg,
                        "<text transform=\"translate(18 %.1f) rotate(-90)\" text-anchor=\"middle\" font-size=\"12\">"
                        "loss (nats per token)</text>\n",
                        (axes.top + bottom) / 2);
  return svg;
}

// Entries from left to right, as many rows as they take.
class Legend {
 public:
  explicit Legend(int width) : width_(width) {}

  void Add(const char* color, const char* dashes, std::string name) {
    if (name.size() > kLegendCharactersMax) name = absl::StrCat(name.substr(0, kLegendCharactersMax - 3), "...");
    const double entry = kLegendGap + kCharacterWidth * static_cast<double>(name.size());
    if (x_ > kMarginLeft && x_ + entry - kLegendGap / 2 > width_) {
      x_ = kMarginLeft;
      ++rows_;
    }
    const double y = kLegendTop + kLegendRow * rows_ - kLegendRow / 2.0;
    absl::StrAppendFormat(
        &svg_, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"3\"%s/>\n", x_,
        x_ + 18, y, y, color, *dashes == '\0' ? "" : absl::StrFormat(" stroke-dasharray=\"%s\"", dashes));
    absl::StrAppend(&svg_, Text(x_ + 23, y + 4, "start", name));
    x_ += entry;
  }

  const std::string& svg() const { return svg_; }
  int bottom() const { return kLegendTop + kLegendRow * rows_; }

 private:
  const int width_;
  std::string svg_;
  double x_ = kMarginLeft;
  int rows_ = 1;
};

// A curve's finite points.
struct Curve {
  std::string name;
  Style style;
  std::vector<Point> train;
  std::vector<Point> validation;
};

Style StyleOf(size_t index, size_t count) {
  if (count == 1) return kSingleStyle;
  const char* color = kColors[index % kColorCount];
  return {color, color, color, 0.25, index < kColorCount ? "" : "6 3"};
}

absl::StatusOr<std::vector<Curve>> FinitePoints(const std::vector<PlotCurve>& plots) {
  std::vector<Curve> curves;
  for (const PlotCurve& plot : plots) {
    Curve curve{plot.name, StyleOf(curves.size(), plots.size()), {}, {}};
    for (const v1::StepRecord& record : plot.records) {
      const double step = static_cast<double>(record.step());
      if (std::isfinite(record.loss())) curve.train.push_back({step, record.loss()});
      if (record.has_validation_loss() && std::isfinite(record.validation_loss())) {
        curve.validation.push_back({step, record.validation_loss()});
      }
    }
    if (curve.train.empty()) {
      return absl::NotFoundError(
          absl::StrCat(plot.name, plot.name.empty() ? "" : ": ", "there is no step with a loss to draw yet"));
    }
    curves.push_back(std::move(curve));
  }
  return curves;
}

Axes AxesOf(const std::vector<Curve>& curves, const PlotOptions& options, int top) {
  const Point first = curves[0].train[0];
  Axes axes{first.x, first.x, first.y, first.y, options.width, options.height, top};
  for (const Curve& curve : curves) {
    for (const auto* points : {&curve.train, &curve.validation}) {
      for (const Point& point : *points) {
        axes.x_low = std::min(axes.x_low, point.x);
        axes.x_high = std::max(axes.x_high, point.x);
        axes.y_low = std::min(axes.y_low, point.y);
        axes.y_high = std::max(axes.y_high, point.y);
      }
    }
  }
  // A curve of one point, or a flat one, still needs an area.
  if (axes.x_high - axes.x_low < 1) axes.x_high = axes.x_low + 1;
  const double slack = std::max(0.04 * (axes.y_high - axes.y_low), 1e-3 * std::max(1.0, std::abs(axes.y_high)));
  axes.y_low -= slack;
  axes.y_high += slack;
  return axes;
}

Legend LegendOf(const std::vector<Curve>& curves, int width) {
  Legend legend(width);
  const bool validation =
      std::any_of(curves.begin(), curves.end(), [](const Curve& curve) { return !curve.validation.empty(); });
  if (curves.size() == 1) {
    legend.Add(kSingleStyle.steps, "", "each step");
    legend.Add(kSingleStyle.average, "", "moving average");
    if (validation) legend.Add(kSingleStyle.validation, "", "validation");
    return legend;
  }
  for (const Curve& curve : curves) legend.Add(curve.style.average, curve.style.dashes, curve.name);
  if (validation) legend.Add("#999999", "2 3", "validation");
  return legend;
}

std::string Validation(const Curve& curve, const Axes& axes, bool single) {
  if (curve.validation.empty()) return "";
  std::string svg =
      Polyline(curve.validation, axes, curve.style.validation, single ? 2.0 : 1.5, 1.0, single ? "" : "2 3");
  for (const Point& point : curve.validation) {
    const Point at = axes.At(point);
    absl::StrAppendFormat(&svg, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"%s\"/>\n", at.x, at.y,
                          single ? 3.5 : 2.5, curve.style.validation);
  }
  return svg;
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

absl::StatusOr<std::string> PlotLossCurves(const std::vector<PlotCurve>& plots, const PlotOptions& options) {
  if (plots.empty() || plots.size() > kPlotCurvesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a picture has 1 to ", kPlotCurvesMax, " curves, not ", plots.size()));
  }
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<Curve> curves, FinitePoints(plots));
  const Legend legend = LegendOf(curves, options.width - kMarginRight);
  const Axes axes = AxesOf(curves, options, legend.bottom() + 8);
  const bool single = curves.size() == 1;

  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
      "font-family=\"sans-serif\" fill=\"#333\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      options.width, options.height, options.width, options.height);
  absl::StrAppend(&svg, Text(kMarginLeft, kTitleBaseline, "start", options.title, 15), legend.svg(), Grid(axes));
  for (const Curve& curve : curves) {
    absl::StrAppend(&svg, Polyline(curve.train, axes, curve.style.steps, 1.0, curve.style.steps_opacity));
  }
  // What matters most lies above.
  for (const Curve& curve : curves) {
    absl::StrAppend(&svg, Polyline(MovingAverage(curve.train), axes, curve.style.average, 2.0, 1.0, curve.style.dashes),
                    Validation(curve, axes, single));
  }
  return absl::StrCat(svg, "</svg>\n");
}

}  // namespace penstock
