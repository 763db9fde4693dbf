#include "services/base/shutdown.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include <gtest/gtest.h>

namespace penstock {
namespace {

using ::testing::ExitedWithCode;
using ::testing::KilledBySignal;

// Each in a child of its own, since what was requested stays requested.
TEST(ShutdownDeathTest, NothingAskedNothingSeen) {
  EXPECT_EXIT(
      {
        ShutdownSignal::Install();
        _exit(ShutdownSignal::requested() || ShutdownSignal::WaitFor(absl::Milliseconds(5)) ? 1 : 7);
      },
      ExitedWithCode(7), "");
}

TEST(ShutdownDeathTest, ASignalWakesEveryWaiter) {
  EXPECT_EXIT(
      {
        ShutdownSignal::Install();
        std::thread first(ShutdownSignal::Wait);
        std::thread second(ShutdownSignal::Wait);
        kill(getpid(), SIGTERM);
        kill(getpid(), SIGTERM);
        first.join();
        second.join();
        _exit(ShutdownSignal::requested() ? 7 : 1);
      },
      ExitedWithCode(7), "");
}

TEST(ShutdownDeathTest, TheProcessItselfMayAsk) {
  EXPECT_EXIT(
      {
        ShutdownSignal::Install();
        std::thread asking(ShutdownSignal::Request);
        ShutdownSignal::Wait();
        asking.join();
        _exit(7);
      },
      ExitedWithCode(7), "");
}

TEST(ShutdownDeathTest, ASecondInterruptEndsAtOnce) {
  EXPECT_EXIT(
      {
        ShutdownSignal::Install();
        raise(SIGINT);
        if (!ShutdownSignal::requested()) _exit(1);
        raise(SIGINT);
        _exit(2);
      },
      KilledBySignal(SIGINT), "");
}

TEST(ShutdownDeathTest, AClosedConnectionIsNoSignal) {
  EXPECT_EXIT(
      {
        ShutdownSignal::Install();
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) _exit(1);
        close(pair[0]);
        _exit(write(pair[1], "x", 1) == -1 && errno == EPIPE ? 7 : 2);
      },
      ExitedWithCode(7), "");
}

}  // namespace
}  // namespace penstock
