#include "services/base/log.h"

#include <cstdlib>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

class LogTest : public ::testing::Test {
 protected:
  ~LogTest() override {
    unsetenv("PENSTOCK_LOG");
    SetLogLevel(LogLevel::kInfo);
  }
};

TEST_F(LogTest, ALineHasTimeLevelRoleAndMessage) {
  InitLog("worker-100%");
  CaptureStderr();
  LogInfo("step {} of {}", 3, 20);
  const std::string line = GetCapturedStderr();
  EXPECT_TRUE(::testing::Matches(::testing::MatchesRegex(
      "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{3}Z info worker-100%\\[[0-9]+\\] step 3 of 20\n"))(line))
      << line;
}

TEST_F(LogTest, LevelsBelowTheChosenOneAreSilent) {
  CaptureStderr();
  LogDebug("hidden");
  SetLogLevel(LogLevel::kError);
  LogWarning("hidden");
  LogError("seen");
  SetLogLevel(LogLevel::kOff);
  LogError("hidden");
  const std::string lines = GetCapturedStderr();
  EXPECT_THAT(lines, HasSubstr("seen"));
  EXPECT_THAT(lines, ::testing::Not(HasSubstr("hidden")));
}

TEST_F(LogTest, TheEnvironmentSetsTheLevel) {
  setenv("PENSTOCK_LOG", "debug", 1);
  InitLog("test");
  EXPECT_TRUE(LogEnabled(LogLevel::kDebug));
  setenv("PENSTOCK_LOG", "off", 1);
  InitLog("test");
  EXPECT_FALSE(LogEnabled(LogLevel::kError));
}

TEST_F(LogTest, AWrongLevelIsExplained) {
  setenv("PENSTOCK_LOG", "loud", 1);
  CaptureStderr();
  InitLog("test");
  EXPECT_THAT(GetCapturedStderr(), HasSubstr("PENSTOCK_LOG is 'loud', but must be debug, info"));
  EXPECT_TRUE(LogEnabled(LogLevel::kInfo));
  EXPECT_FALSE(LogEnabled(LogLevel::kDebug));
}

TEST_F(LogTest, AMessageStaysOneLine) {
  CaptureStderr();
  LogInfo("name '{}'", "a\n2026 error forged\x1b[2J");
  const std::string line = GetCapturedStderr();
  EXPECT_THAT(line, HasSubstr("name 'a\\n2026 error forged\\x1b[2J'\n"));
  EXPECT_EQ(line.find('\n'), line.size() - 1);
}

TEST_F(LogTest, WritesAbseilsTypes) {
  CaptureStderr();
  LogInfo("{} after {} at {}: {}", absl::string_view("it"), absl::Milliseconds(1500), absl::UnixEpoch(),
          absl::AbortedError("stop"));
  const std::string line = GetCapturedStderr();
  EXPECT_THAT(line, HasSubstr("it after 1.5s at 1970"));
  EXPECT_THAT(line, HasSubstr("ABORTED: stop"));
}

}  // namespace
}  // namespace penstock
