#include "core/random/permutation.h"

#include <cmath>
#include <cstdlib>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

TEST(PermutationTest, HitsEveryValueOnce) {
  for (const uint64_t n : {1u, 2u, 3u, 4u, 5u, 15u, 16u, 17u, 63u, 64u, 65u, 1000u, 4096u, 4097u, 65537u}) {
    for (uint64_t epoch = 0; epoch < 3; ++epoch) {
      const Permutation permutation(n, 9, epoch);
      std::vector<bool> hit(n, false);
      for (uint64_t i = 0; i < n; ++i) {
        const uint64_t to = permutation(i);
        ASSERT_LT(to, n);
        ASSERT_FALSE(hit[to]) << "n " << n << " index " << i;
        hit[to] = true;
      }
    }
  }
}

TEST(PermutationTest, LargeDomainsStayInRange) {
  for (const uint64_t n : {(uint64_t{1} << 33) + 1, uint64_t{1} << 62, UINT64_MAX}) {
    const Permutation permutation(n, 1, 2);
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < 1000; ++i) {
      EXPECT_LT(permutation(i), n);
      seen.insert(permutation(i));
    }
    EXPECT_EQ(seen.size(), 1000u);
    EXPECT_LT(permutation(n - 1), n);
  }
}

TEST(PermutationTest, EpochsAndSeedsAreUnrelated) {
  const uint64_t n = 10000;
  const Permutation first(n, 1, 0);
  for (const Permutation& other : {Permutation(n, 1, 1), Permutation(n, 2, 0), Permutation(n, 1, uint64_t{1} << 63)}) {
    int same = 0;
    for (uint64_t i = 0; i < n; ++i) same += first(i) == other(i);
    // One fixed point is expected.
    EXPECT_LT(same, 10);
  }
}

TEST(PermutationTest, LeavesNoOrderBehind) {
  const uint64_t n = 100003;
  const Permutation permutation(n, 3, 4);
  double correlation = 0;
  int ascents = 0;
  const double mean = (static_cast<double>(n) - 1) / 2;
  for (uint64_t i = 0; i < n; ++i) {
    correlation += (static_cast<double>(i) - mean) * (static_cast<double>(permutation(i)) - mean);
    if (i + 1 < n) ascents += permutation(i) < permutation(i + 1);
  }
  const double m = static_cast<double>(n);
  correlation /= m * m * m / 12;
  EXPECT_LT(std::abs(correlation), 5 / std::sqrt(m));
  // Ascents of a random permutation: mean (n - 1) / 2, variance (n + 1) / 12.
  EXPECT_NEAR(ascents, (m - 1) / 2, 5 * std::sqrt(m / 12));
}

// Pinned: another order would change which samples belong to a step of a resumed job.
TEST(PermutationTest, OrderIsPinned) {
  const Permutation permutation(10, 1, 0);
  std::vector<uint64_t> order;
  for (uint64_t i = 0; i < 10; ++i) order.push_back(permutation(i));
  EXPECT_EQ(order, (std::vector<uint64_t>{6, 9, 1, 7, 3, 0, 4, 2, 5, 8}));
}

}  // namespace
}  // namespace penstock
