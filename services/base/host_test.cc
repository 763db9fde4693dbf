#include "services/base/host.h"

#include "gtest/gtest.h"

namespace penstock {
namespace {

TEST(HostTest, ThisMachineHasCoresMemoryAndAStableId) {
  const Host host = ThisHost();
  EXPECT_GT(host.id.size(), 1u);
  EXPECT_EQ(host.id, ThisHost().id);
  EXPECT_GE(host.cores, 1);
  EXPECT_GT(host.memory_bytes, int64_t{1} << 20);
}

TEST(HostTest, Meminfo) {
  EXPECT_EQ(ParseMemTotal("MemTotal:       24576 kB\nMemFree: 1 kB\n"), int64_t{24576} << 10);
  EXPECT_EQ(ParseMemTotal("MemFree: 7 kB\n"), 0);
  EXPECT_EQ(ParseMemTotal("MemTotal: kB"), 0);
  EXPECT_EQ(ParseMemTotal("MemTotal: 99999999999999999999999 kB"), 0);
  EXPECT_EQ(ParseMemTotal("MemTotal: 8999999999999999999 kB"), 0);
}

TEST(HostTest, ControlGroup) {
  EXPECT_EQ(ParseMemoryMax("2147483648\n"), int64_t{1} << 31);
  EXPECT_EQ(ParseMemoryMax("max\n"), 0);
  EXPECT_EQ(ParseMemoryMax(""), 0);
  EXPECT_EQ(ParseMemoryMax("-5"), 0);
}

}  // namespace
}  // namespace penstock
