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
  auto svg = PlotLossCurve(records, {"a<b>"});
  ASSERT_TRUE(svg.ok()) << svg.status();
  EXPECT_THAT(*svg, HasSubstr("a&lt;b&gt;"));
  EXPECT_THAT(*svg, HasSubstr("<circle"));
  EXPECT_THAT(*svg, Not(HasSubstr("inf")));
  EXPECT_THAT(*svg, Not(HasSubstr("nan")));
}

TEST(PlotTest, OnePointStillHasAnArea) {
  auto svg = PlotLossCurve({Record(1, 2.0)}, {"one"});
  ASSERT_TRUE(svg.ok());
  EXPECT_THAT(*svg, Not(HasSubstr("nan")));
}

TEST(PlotTest, NothingToDrawIsSaid) {
  EXPECT_EQ(PlotLossCurve({}, {"none"}).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace penstock
