#include "core/layout/norm_plan.h"

#include <gtest/gtest.h>

#include "core/model/parameter_table.h"

namespace penstock {
namespace {

constexpr int64_t kPiece = kPieceElements;
using Owned = std::vector<std::vector<ElementRange>>;

TEST(NormPlanTest, APieceOfOneOwnerIsWholeAndAtHomeThere) {
  const auto pieces = PlanNorm(2 * kPiece + 5, Owned{{{0, kPiece}}, {{kPiece, 2 * kPiece + 5}}});
  ASSERT_TRUE(pieces.ok()) << pieces.status();
  ASSERT_EQ(pieces->size(), 3u);
  EXPECT_TRUE((*pieces)[0].whole());
  EXPECT_EQ((*pieces)[0].home, 0);
  EXPECT_EQ((*pieces)[2].home, 1);
  EXPECT_EQ((*pieces)[2].range, (ElementRange{2 * kPiece, 2 * kPiece + 5}));
}

TEST(NormPlanTest, ACutPieceIsAtHomeWhereMostOfItIs) {
  const auto pieces = PlanNorm(kPiece, Owned{{{0, 100}, {200, 300}}, {{100, 200}}, {{300, kPiece}}});
  ASSERT_TRUE(pieces.ok()) << pieces.status();
  ASSERT_EQ(pieces->size(), 1u);
  EXPECT_EQ((*pieces)[0].home, 2);
  const std::vector<NormFragment> expected = {{0, {0, 100}}, {1, {100, 200}}, {0, {200, 300}}, {2, {300, kPiece}}};
  EXPECT_EQ((*pieces)[0].fragments, expected);
}

TEST(NormPlanTest, OfEqualOwnersTheLowestRankIsTheHome) {
  const auto pieces = PlanNorm(10, Owned{{}, {{5, 10}}, {{0, 5}}});
  ASSERT_TRUE(pieces.ok()) << pieces.status();
  EXPECT_EQ((*pieces)[0].home, 1);
}

TEST(NormPlanTest, RangesThatTouchAreOneFragment) {
  const auto pieces = PlanNorm(10, Owned{{{4, 10}, {0, 4}}});
  ASSERT_TRUE(pieces.ok()) << pieces.status();
  EXPECT_TRUE((*pieces)[0].whole());
}

TEST(NormPlanTest, RefusesElementsWithoutOrWithTwoOwners) {
  EXPECT_EQ(PlanNorm(10, Owned{{{0, 4}}, {{5, 10}}}).status().message(), "element 4 has no owner");
  EXPECT_EQ(PlanNorm(10, Owned{{{0, 6}}, {{5, 10}}}).status().message(), "element 5 has two owners");
  EXPECT_FALSE(PlanNorm(11, Owned{{{0, 10}}}).ok());
}

}  // namespace
}  // namespace penstock
