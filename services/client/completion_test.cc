#include "services/client/completion.h"

#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/client/commands.h"

namespace penstock {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<Candidate> Names(const std::string& kind) {
  if (kind == "JOB") return {{"first", "RUNNING"}, {"second", "FAILED"}};
  return {{"worker-0", "IDLE"}};
}

// Of the real command line: "job show f" with the last word open.
std::vector<std::string> Complete(const std::string& typed) {
  std::vector<std::string> found;
  for (const Candidate& candidate : Complete(Commands(), absl::StrSplit(typed, ' '), Names)) {
    found.push_back(candidate.text);
  }
  return found;
}

TEST(CompletionTest, CommandsAndTheirVerbs) {
  EXPECT_THAT(Complete(""), AllOf(Contains("job"), Contains("checkpoint"), Contains("completion")));
  EXPECT_THAT(Complete("jo"), ElementsAre("job"));
  EXPECT_THAT(Complete("job s"), ElementsAre("submit", "show"));
  EXPECT_THAT(Complete("nothing s"), IsEmpty());
}

TEST(CompletionTest, NamesOfTheCluster) {
  EXPECT_THAT(Complete("job show "), ElementsAre("first", "second"));
  EXPECT_THAT(Complete("job show s"), ElementsAre("second"));
  EXPECT_THAT(Complete("job show first "), IsEmpty());
  EXPECT_THAT(Complete("job plot first s"), ElementsAre("second"));
  EXPECT_THAT(Complete("--coordinator localhost:1 -o json job events f"), ElementsAre("first"));
  EXPECT_THAT(Complete("checkpoint verify f"), ElementsAre("first", kCompleteFiles));
}

TEST(CompletionTest, FlagsOfTheCommandThenGlobalOnesAndNoneTwice) {
  EXPECT_THAT(Complete("job submit x.yaml --d"), ElementsAre("--detach"));
  EXPECT_THAT(Complete("job submit --detach x.yaml --d"), IsEmpty());
  EXPECT_THAT(Complete("job submit --set a=1 x.yaml --se"), ElementsAre("--set"));
  EXPECT_THAT(Complete("job list -"), AllOf(Contains("--coordinator"), Not(Contains("--set"))));
}

TEST(CompletionTest, ValuesOfFlags) {
  EXPECT_THAT(Complete("job list -o "), ElementsAre("table", "json"));
  EXPECT_THAT(Complete("job list --output=j"), ElementsAre("--output=json"));
  EXPECT_THAT(Complete("job plot first --file "), ElementsAre(kCompleteFiles));
  EXPECT_THAT(Complete("job submit "), ElementsAre(kCompleteFiles));
  EXPECT_THAT(Complete("job submit -- --s"), ElementsAre(kCompleteFiles));
}

TEST(CompletionTest, OverridesFollowTheSchema) {
  EXPECT_THAT(Complete("job submit x --set mod"), ElementsAre("model."));
  EXPECT_THAT(Complete("job submit x --set model.l"), Contains("model.layers="));
  EXPECT_THAT(Complete("job submit x --set=model.layers"), ElementsAre("--set=model.layers="));
  EXPECT_THAT(Complete("job submit x --set model.family=gp"), Contains("model.family=gpt2"));
  EXPECT_THAT(Complete("job submit x --set model.layers.x"), IsEmpty());
}

TEST(CompletionTest, TheCoordinatorIsTheOneTyped) {
  const auto environment = [](const char*) -> const char* { return "e:1"; };
  const auto none = [](const char*) -> const char* { return nullptr; };
  const auto of = [&](const std::string& typed, const CommandLineParser::Environment& env) {
    return TypedFlag(Commands(), absl::StrSplit(typed, ' '), "coordinator", env);
  };
  EXPECT_EQ(of("--coordinator=a:1 job show x", environment), "a:1");
  EXPECT_EQ(of("job show --coordinator b:1 x", environment), "b:1");
  EXPECT_EQ(of("job show x", environment), "e:1");
  EXPECT_EQ(of("job show x", none), "127.0.0.1:7070");
}

// The real bash runs the real script, with a program in penstockctl's place that answers with what it was asked.
std::string RunBash(const std::string& line, const std::string& answer) {
  const std::string folder = ::testing::TempDir();
  std::ofstream(folder + "/script.bash") << *CompletionScript("bash");
  std::ofstream(folder + "/asked.sh") << "#!/bin/bash\nprintf '[%s]' \"$@\" > " << folder << "/asked\nprintf -- '"
                                      << answer << "'\n";
  const std::string command = absl::StrCat(
      "cd ", folder,
      " && chmod +x asked.sh && touch some_file && bash -c 'source ./script.bash; COMP_LINE=\"./asked.sh ", line,
      "\"; COMP_POINT=${#COMP_LINE}; _penstockctl; cat asked; "
      "printf \" %s\" \"${COMPREPLY[@]}\"' 2>&1");
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "no bash";
  std::string output;
  char buffer[256];
  while (std::fgets(buffer, sizeof(buffer), pipe) != nullptr) output += buffer;
  pclose(pipe);
  return output;
}

TEST(CompletionScriptTest, BashAsksTheProgramAndGivesBackTheLastPartOfTheWord) {
  EXPECT_EQ(RunBash("job show ", "first\\tRUNNING\\nsecond\\t\\n"), "[__complete][job][show][] first second");
  EXPECT_EQ(RunBash("job list --output=j", "--output=json\\t\\n"), "[__complete][job][list][--output=j] json");
  EXPECT_EQ(RunBash("job submit some_f", ":files\\t\\n"), "[__complete][job][submit][some_f] some_file");
}

TEST(CompletionScriptTest, OtherShellsAreNamed) {
  for (const char* shell : {"zsh", "fish"}) EXPECT_THAT(*CompletionScript(shell), HasSubstr(kCompleteWord));
  EXPECT_THAT(std::string(CompletionScript("csh").status().message()), HasSubstr("bash, zsh and fish"));
}

}  // namespace
}  // namespace penstock
