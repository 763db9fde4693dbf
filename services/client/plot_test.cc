#include "services/client/plot.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

v1::StepRecord Record(uint64_t step, double loss) {
  v1::StepRecord record;
  record.set_step(step);
  record.set_loss(loss);
  return record;
}

TEST(PlotTest, TicksAreRound) {
  EXPECT_THAT(RoundTicks(0, 10, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(RoundTicks(1.9, 4.2, 5), ElementsAre(2, 2.5, 3, 3.5, 4));
}

TEST(PlotTest, DrawsEveryFiniteLossAndEscapesTheTitle) {
  std::vector<v1::StepRecord> records = {Record(1, 5.5), Record(2, std::numeric_limits<double>::infinity()),
                                         Record(3, 2.0)};
  records[2].set_validation_loss(2.5);
  auto svg = PlotLossCurves({{"", records}}, {"a<b>"});
  ASSERT_TRUE(svg.ok()) << svg.status();
  EXPECT_THAT(*svg, HasSubstr("a&lt;b&gt;"));
  EXPECT_THAT(*svg, HasSubstr("<circle"));
  EXPECT_THAT(*svg, Not(HasSubstr("inf")));
  EXPECT_THAT(*svg, Not(HasSubstr("nan")));
}

TEST(PlotTest, OnePointStillHasAnArea) {
  auto svg = PlotLossCurves({{"", {Record(1, 2.0)}}}, {"one"});
  ASSERT_TRUE(svg.ok());
  EXPECT_THAT(*svg, Not(HasSubstr("nan")));
}

TEST(PlotTest, SeveralJobsShareTheAxesAndHaveAColourAndALegendEach) {
  std::vector<PlotCurve> curves = {{"deep<er>", {Record(1, 5.0), Record(10, 2.0)}},
                                   {"wide", {Record(5, 9.0), Record(40, 1.0)}}};
  curves[1].records[0].set_validation_loss(8.0);
  auto svg = PlotLossCurves(curves, {"two"});
  ASSERT_TRUE(svg.ok()) << svg.status();
  EXPECT_THAT(*svg, HasSubstr(">deep&lt;er&gt;</text>"));
  EXPECT_THAT(*svg, HasSubstr(">wide</text>"));
  EXPECT_THAT(*svg, HasSubstr(">validation</text>"));
  EXPECT_THAT(*svg, HasSubstr("#0072b2"));
  EXPECT_THAT(*svg, HasSubstr("#d55e00"));
  // The first job's first point lies at the left edge, the second one's last at the right edge.
  EXPECT_THAT(*svg, HasSubstr("points=\"64.0,"));
  EXPECT_THAT(*svg, HasSubstr(" 876.0,"));
}

TEST(PlotTest, ManyJobsWithLongNamesWrapTheLegend) {
  std::vector<PlotCurve> curves;
  for (size_t i = 0; i < kPlotCurvesMax; ++i) {
    curves.push_back({std::string(60, static_cast<char>('a' + i)), {Record(1, 5.0), Record(2, 4.0 - 0.1 * i)}});
  }
  auto svg = PlotLossCurves(curves, {"many"});
  ASSERT_TRUE(svg.ok()) << svg.status();
  EXPECT_THAT(*svg, HasSubstr("aaa...</text>"));
  EXPECT_THAT(*svg, HasSubstr("stroke-dasharray=\"6 3\""));
  curves.push_back(curves[0]);
  EXPECT_EQ(PlotLossCurves(curves, {"too many"}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PlotTest, NothingToDrawIsSaid) {
  EXPECT_EQ(PlotLossCurves({}, {"none"}).status().code(), absl::StatusCode::kInvalidArgument);
  const absl::Status status = PlotLossCurves({{"has", {Record(1, 2.0)}}, {"has-not", {}}}, {"two"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("has-not: "));
}

}  // namespace
}  // namespace penstock
