#include "services/client/command_line.h"

#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Lives on: parsed lines point to its commands.
const CommandLineParser& Parser() {
  static const auto* const parser =
      new CommandLineParser("ctl", "A client.",
                            {{"coordinator", "", "HOST:PORT", "where", "TEST_COORDINATOR", "localhost:1"},
                             {"output", "o", "FORMAT", "how", "TEST_OUTPUT", "table"}},
                            {{"job",
                              "submit",
                              {"FILE"},
                              "submits",
                              "",
                              {{"detach", "", "", "go"}, {"set", "", "KEY=VALUE", "set", "", "", true}}},
                             {"job", "list", {}, "lists", "", {}},
                             {"job", "plot", {"JOB..."}, "draws", "", {}},
                             {"worker", "list", {"[ID]"}, "lists", "", {}}});
  return *parser;
}

const char* NoEnvironment(const char*) { return nullptr; }

TEST(CommandLineTest, FlagsStandAnywhereAndBothWays) {
  auto line =
      Parser().Parse({"-o", "json", "job", "--set", "a=1", "submit", "x.yaml", "--set=b=2", "--detach"}, NoEnvironment);
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->command->verb, "submit");
  EXPECT_THAT(line->arguments, ElementsAre("x.yaml"));
  EXPECT_THAT(line->Flags("set"), ElementsAre("a=1", "b=2"));
  EXPECT_EQ(line->Flag("output"), "json");
  EXPECT_EQ(line->Flag("coordinator"), "localhost:1");
  EXPECT_TRUE(line->Has("detach"));
}

TEST(CommandLineTest, EnvironmentStandsBetweenDefaultAndFlag) {
  auto environment = [](const char* name) -> const char* {
    return strcmp(name, "TEST_OUTPUT") == 0 ? "json" : nullptr;
  };
  EXPECT_EQ(Parser().Parse({"job", "list"}, environment)->Flag("output"), "json");
  EXPECT_EQ(Parser().Parse({"job", "list", "--output=table"}, environment)->Flag("output"), "table");
}

TEST(CommandLineTest, SingleDashAndWhatFollowsDoubleDashAreArguments) {
  EXPECT_THAT(Parser().Parse({"job", "submit", "-"}, NoEnvironment)->arguments, ElementsAre("-"));
  EXPECT_THAT(Parser().Parse({"job", "submit", "--", "-o"}, NoEnvironment)->arguments, ElementsAre("-o"));
}

TEST(CommandLineTest, AnArgumentWithDotsMayBeGivenSeveralTimes) {
  EXPECT_THAT(Parser().Parse({"job", "plot", "a"}, NoEnvironment)->arguments, ElementsAre("a"));
  EXPECT_THAT(Parser().Parse({"job", "plot", "a", "b", "c"}, NoEnvironment)->arguments, ElementsAre("a", "b", "c"));
}

struct BadLine {
  std::vector<std::string> arguments;
  std::string message;
};

class BadCommandLineTest : public ::testing::TestWithParam<BadLine> {};

TEST_P(BadCommandLineTest, SaysWhatWouldBeRight) {
  auto line = Parser().Parse(GetParam().arguments, NoEnvironment);
  ASSERT_FALSE(line.ok());
  EXPECT_EQ(line.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(line.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(All, BadCommandLineTest,
                         ::testing::Values(BadLine{{}, "a command is missing"},                           //
                                           BadLine{{"job"}, "'job' needs a verb: submit, list, plot"},    //
                                           BadLine{{"job", "sbmit", "x"}, "did you mean 'job submit'?"},  //
                                           BadLine{{"job", "list", "--otput=json"}, "did you mean '--output'?"},
                                           BadLine{{"job", "submit"}, "FILE is missing"},  //
                                           BadLine{{"job", "plot"}, "JOB... is missing"},
                                           BadLine{{"job", "list", "x"}, "'x' is one argument too many"},    //
                                           BadLine{{"job", "list", "--detach"}, "has no flag --detach"},     //
                                           BadLine{{"job", "submit", "x", "--detach=1"}, "takes no value"},  //
                                           BadLine{{"job", "list", "-o"}, "--output needs a value"}));

TEST(CommandLineTest, HelpNamesEveryCommandAndFlag) {
  const CommandLineParser& parser = Parser();
  auto line = parser.Parse({"--help"}, NoEnvironment);
  ASSERT_TRUE(line.ok());
  EXPECT_TRUE(line->help);
  for (const char* word : {"job submit FILE", "worker list [ID]", "-o, --output FORMAT", "TEST_COORDINATOR"}) {
    EXPECT_THAT(parser.Help(), HasSubstr(word));
  }
  line = parser.Parse({"job", "--help"}, NoEnvironment);
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_THAT(parser.Help(line->command, line->noun), HasSubstr("job submit FILE"));
  EXPECT_THAT(parser.Help(line->command, line->noun), ::testing::Not(HasSubstr("worker list")));
  EXPECT_FALSE(parser.Parse({"jub", "--help"}, NoEnvironment).ok());
  line = parser.Parse({"job", "submit", "-h"}, NoEnvironment);
  ASSERT_TRUE(line.ok());
  EXPECT_THAT(parser.Help(line->command), HasSubstr("--set KEY=VALUE"));
}

}  // namespace
}  // namespace penstock
