#include "worker/ops/cpu/passive_threads.h"

#include <stdlib.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"

namespace {

TEST(PassiveThreads, TheProgramRunsAgainWithThePolicySetAndTheSameId) {
  ASSERT_NE(getenv("OMP_WAIT_POLICY"), nullptr);
  EXPECT_STREQ(getenv("OMP_WAIT_POLICY"), "passive");
  ASSERT_NE(getenv("PENSTOCK_TEST_PID"), nullptr) << "main ran once only";
  EXPECT_EQ(std::to_string(getpid()), getenv("PENSTOCK_TEST_PID"));
}

}  // namespace

int main(int argc, char** argv) {
  if (getenv("PENSTOCK_TEST_PID") == nullptr) {
    unsetenv("OMP_WAIT_POLICY");
    unsetenv("GOMP_SPINCOUNT");
    setenv("PENSTOCK_TEST_PID", std::to_string(getpid()).c_str(), 1);
  }
  penstock::MakeWaitingThreadsSleep(argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
