#include "services/base/flags.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/flags/flag.h"
#include "services/base/version.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:0", "where to serve");
ABSL_FLAG(int, threads, 4, "compute threads");
ABSL_FLAG(std::string, root, "", "the root folder");

namespace penstock {
namespace {

using ::testing::ExitedWithCode;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kUsage[] = "penstock-test: a process of a test.\n\nMore of it.";

void Parse(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "test");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  ParseFlags(static_cast<int>(arguments.size()), argv.data(), kUsage);
}

TEST(FlagsTest, HelpHasOurFlagsAndNothingElse) {
  const std::string help = FlagsHelp(kUsage);
  EXPECT_THAT(help, HasSubstr("penstock-test: a process of a test.\n\nMore of it.\n\nFlags"));
  EXPECT_THAT(help, HasSubstr("  --listen=127.0.0.1:0\n        where to serve\n"));
  EXPECT_THAT(help, HasSubstr("  --root=''\n"));
  EXPECT_THAT(help, HasSubstr("PENSTOCK_LOG"));
  EXPECT_THAT(help, Not(HasSubstr("flagfile")));
  EXPECT_THAT(help, Not(HasSubstr("helpfull")));
  EXPECT_LT(help.find("--listen"), help.find("--threads"));
}

// In a child: a process parses its flags once.
TEST(FlagsDeathTest, TakesValues) {
  EXPECT_EXIT(
      {
        Parse({"--threads=7", "--listen", "0.0.0.0:80"});
        std::fprintf(stderr, "%d %s", absl::GetFlag(FLAGS_threads), absl::GetFlag(FLAGS_listen).c_str());
        std::exit(5);
      },
      ExitedWithCode(5), "7 0.0.0.0:80");
}

TEST(FlagsDeathTest, HelpAndVersionExitWithZero) {
  EXPECT_EXIT(Parse({"--threads=7", "--help"}), ExitedWithCode(0), "");
  EXPECT_EXIT(Parse({"-h"}), ExitedWithCode(0), "");
  EXPECT_EXIT(Parse({"--version"}), ExitedWithCode(0), "");
}

TEST(FlagsDeathTest, WhatIsWrongIsExplained) {
  EXPECT_EXIT(Parse({"--thread=7"}), ExitedWithCode(1), "thread");
  EXPECT_EXIT(Parse({"--threads=many"}), ExitedWithCode(1), "many");
  EXPECT_EXIT(Parse({"seven"}), ExitedWithCode(1), "penstock-test: 'seven' is not a flag");
}

}  // namespace
}  // namespace penstock
