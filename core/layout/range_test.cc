#include "core/layout/range.h"

#include <algorithm>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

using Ranges = std::vector<ElementRange>;

TEST(RangeTest, IntersectAndContain) {
  EXPECT_EQ(Intersect({0, 10}, {5, 20}), (ElementRange{5, 10}));
  EXPECT_TRUE(Intersect({0, 5}, {5, 20}).empty());
  EXPECT_EQ(Intersect({0, 5}, {7, 20}), (ElementRange{}));
  EXPECT_TRUE((ElementRange{2, 5}).Contains(2));
  EXPECT_FALSE((ElementRange{2, 5}).Contains(5));
  EXPECT_TRUE((ElementRange{2, 5}).Contains(ElementRange{2, 5}));
  EXPECT_FALSE((ElementRange{2, 5}).Contains(ElementRange{2, 6}));
  EXPECT_EQ((ElementRange{7, 3}).size(), 0);
  EXPECT_EQ((ElementRange{3, 7}).ToString(), "[3, 7)");
}

TEST(RangeTest, Splits) {
  EXPECT_EQ(SplitAtMultiples({5, 25}, 10), (Ranges{{5, 10}, {10, 20}, {20, 25}}));
  EXPECT_EQ(SplitAtMultiples({10, 20}, 10), (Ranges{{10, 20}}));
  EXPECT_EQ(SplitAtMultiples({4, 4}, 10), Ranges{});
  EXPECT_EQ(SplitBySize({5, 25}, 10), (Ranges{{5, 15}, {15, 25}}));
  EXPECT_EQ(SplitBySize({5, 26}, 10), (Ranges{{5, 15}, {15, 25}, {25, 26}}));
}

TEST(RangeTest, MergeSortsAndJoins) {
  EXPECT_EQ(Merge(Ranges{{10, 20}, {0, 5}, {5, 8}, {15, 30}, {9, 9}}), (Ranges{{0, 8}, {10, 30}}));
  EXPECT_EQ(TotalSize(Ranges{{0, 8}, {10, 30}, {4, 2}}), 28);
}

// Against one flag for each element.
TEST(RangeSetTest, AgreesWithFlags) {
  constexpr int64_t kSize = 60;
  std::mt19937 generator(5);
  const auto random_range = [&] {
    const int64_t begin = static_cast<int64_t>(generator() % kSize);
    return ElementRange{begin, begin + static_cast<int64_t>(generator() % (kSize - static_cast<unsigned>(begin) + 1))};
  };
  for (int round = 0; round < 300; ++round) {
    RangeSet set;
    std::vector<bool> flags(kSize, false);
    for (int add = 0; add < 10; ++add) {
      ElementRange range = random_range();
      if (generator() % 2 == 0) range.end = std::min(range.end, range.begin + 4);
      int64_t added = 0;
      for (int64_t i = range.begin; i < range.end; ++i) {
        added += !flags[static_cast<size_t>(i)];
        flags[static_cast<size_t>(i)] = true;
      }
      ASSERT_EQ(set.Add(range), added);
      const ElementRange query = random_range();
      bool covers = true;
      bool overlaps = false;
      Ranges missing;
      for (int64_t i = query.begin; i < query.end; ++i) {
        const bool in = flags[static_cast<size_t>(i)];
        covers &= in;
        overlaps |= in;
        if (in) continue;
        if (!missing.empty() && missing.back().end == i) {
          ++missing.back().end;
        } else {
          missing.push_back({i, i + 1});
        }
      }
      ASSERT_EQ(set.Covers(query), covers) << query.ToString();
      ASSERT_EQ(set.Overlaps(query), overlaps) << query.ToString();
      ASSERT_EQ(set.Missing(query), missing) << query.ToString();
      ASSERT_EQ(set.size(), std::count(flags.begin(), flags.end(), true));
      const Ranges ranges = set.ranges();
      for (size_t i = 1; i < ranges.size(); ++i) ASSERT_LT(ranges[i - 1].end, ranges[i].begin);
      ASSERT_EQ(TotalSize(ranges), set.size());
    }
    set.Clear();
    EXPECT_TRUE(set.empty());
    EXPECT_FALSE(set.Overlaps({0, kSize}));
  }
}

}  // namespace
}  // namespace penstock
