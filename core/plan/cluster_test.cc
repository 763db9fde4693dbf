#include "core/plan/cluster.h"

#include "gtest/gtest.h"

namespace penstock {
namespace {

std::vector<int> Place(const std::vector<int>& hosts, int pipeline, int data, int tensor) {
  return PlaceRanks(hosts, *Mesh::Create(pipeline, data, tensor));
}

TEST(PlaceRanksTest, OnOneHostInOrder) {
  EXPECT_EQ(Place({0, 0, 0, 0}, 2, 2, 1), (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(Place({0, 0, 0, 0}, 2, 1, 1), (std::vector<int>{0, 1}));
}

TEST(PlaceRanksTest, HostsOneAfterTheOther) {
  // Offered alternately: the data groups stay on their hosts, the pipeline crosses.
  EXPECT_EQ(Place({0, 1, 0, 1}, 2, 2, 1), (std::vector<int>{0, 2, 1, 3}));
}

TEST(PlaceRanksTest, TensorGroupsStayInsideAHost) {
  // Host 0 has three: one of them is left over rather than paired with a stranger.
  const std::vector<int> hosts = {0, 0, 0, 1, 1};
  const std::vector<int> ranks = Place(hosts, 2, 1, 2);
  EXPECT_EQ(ranks, (std::vector<int>{0, 1, 3, 4}));
}

TEST(PlaceRanksTest, WhereNoHostHasRoomGroupsSpanHosts) {
  EXPECT_EQ(Place({0, 1, 2, 3}, 1, 2, 2), (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(Place({0, 0, 0, 1}, 1, 2, 2), (std::vector<int>{0, 1, 2, 3}));
}

TEST(DefaultRatesTest, AreThere) {
  EXPECT_GE(DefaultRates().fp32().layers_size(), 2);
  EXPECT_GT(DefaultRates().fp32().head_flops_per_second(), 0);
  EXPECT_GT(DefaultRates().memory_bytes_per_second(), 0);
}

}  // namespace
}  // namespace penstock
