#include "core/layout/range_list.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

using Ranges = std::vector<ElementRange>;

RangeList Make(const Ranges& ranges) {
  RangeList list;
  for (const ElementRange& range : ranges) list.Add(range);
  return list;
}

TEST(RangeListTest, MemoryIsTheConcatenationInTheOrderGiven) {
  const RangeList list = Make({{10, 20}, {5, 5}, {20, 24}, {2, 4}, {40, 41}});
  EXPECT_EQ(list.ranges(), (Ranges{{10, 24}, {2, 4}, {40, 41}}));
  EXPECT_EQ(list.size(), 17);
  EXPECT_EQ(list.placed()[1].offset, 14);
  EXPECT_EQ(list.OffsetOf({10, 24}), 0);
  EXPECT_EQ(list.OffsetOf({12, 13}), 2);
  EXPECT_EQ(list.OffsetOf({3, 4}), 15);
  EXPECT_EQ(list.OffsetOf({40, 41}), 16);
  EXPECT_EQ(list.OffsetOf({4, 5}), std::nullopt);
  EXPECT_EQ(list.OffsetOf({20, 25}), std::nullopt);
  EXPECT_EQ(list.OffsetOf({12, 12}), std::nullopt);
}

TEST(RangeListTest, SlicesAreInElementsOfTheMemory) {
  const RangeList list = Make({{10, 24}, {2, 4}, {40, 41}});
  EXPECT_EQ(list.Slice({0, 17}), list);
  EXPECT_EQ(list.Slice({3, 15}).ranges(), (Ranges{{13, 24}, {2, 3}}));
  EXPECT_EQ(list.Slice({15, 17}).ranges(), (Ranges{{3, 4}, {40, 41}}));
  EXPECT_TRUE(list.Slice({5, 5}).empty());
  EXPECT_TRUE(RangeList().Slice({0, 0}).empty());
  RangeList both = list.Slice({0, 3});
  both.Add(list.Slice({3, 17}));
  EXPECT_EQ(both, list);
}

}  // namespace
}  // namespace penstock
