#include "deploy/local/process.h"

#include <signal.h>
#include <stdlib.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<ChildProcess> Shell(const std::string& command, const std::string& log_path = "") {
  auto process = ChildProcess::Start({"shell", {"/bin/sh", "-c", command}, log_path});
  EXPECT_TRUE(process.ok()) << process.status();
  return *std::move(process);
}

TEST(ChildProcessTest, EndsWithItsExitCode) {
  auto process = Shell("exit 7");
  ASSERT_TRUE(process->WaitForEnd(absl::Seconds(10)));
  EXPECT_FALSE(process->Running());
  EXPECT_EQ(process->ExitCode(), 7);
  EXPECT_EQ(process->EndReason(), "exit code 7");
}

TEST(ChildProcessTest, ASignalIsTold) {
  auto process = Shell("exec sleep 100");
  EXPECT_TRUE(process->Running());
  process->Signal(SIGKILL);
  ASSERT_TRUE(process->WaitForEnd(absl::Seconds(10)));
  EXPECT_THAT(process->EndReason(), HasSubstr("signal 9"));
  EXPECT_EQ(process->ExitCode(), 128 + SIGKILL);
}

TEST(ChildProcessTest, ASleepingChildIsntWaitedForTooLong) {
  auto process = Shell("exec sleep 100");
  EXPECT_FALSE(process->WaitForEnd(absl::Milliseconds(20)));
}

TEST(ChildProcessTest, TheLogTakesOutputAndErrors) {
  const std::string log = absl::StrCat(getenv("TEST_TMPDIR"), "/child.log");
  auto process = Shell("echo one; echo two; echo three >&2", log);
  ASSERT_TRUE(process->WaitForEnd(absl::Seconds(10)));
  EXPECT_EQ(process->LogTail(2), "two\nthree");
}

TEST(ChildProcessTest, AMissingBinaryIsSaid) {
  auto process = ChildProcess::Start({"ghost", {"/no/such/binary"}, ""});
  EXPECT_EQ(process.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(process.status().message()), HasSubstr("/no/such/binary"));
}

TEST(ChildProcessTest, TheDestructorKills) {
  pid_t pid = 0;
  {
    auto process = Shell("exec sleep 100");
    pid = process->pid();
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

}  // namespace
}  // namespace penstock
