// penstockctl: the command-line client that everybody uses.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "services/base/version.h"
#include "services/client/commands.h"
#include "services/client/completion.h"

namespace penstock {
namespace {

int Main(const std::vector<std::string>& arguments) {
  if (!arguments.empty() && arguments[0] == kCompleteWord) {
    return PrintCandidates(std::vector<std::string>(arguments.begin() + 1, arguments.end()));
  }
  const CommandLineParser& parser = Commands();
  auto line = parser.Parse(arguments, [](const char* name) -> const char* { return std::getenv(name); });
  if (!line.ok()) return Fail(line.status());
  if (line->version) {
    std::printf("penstockctl %s\n", kVersion);
    return kExitDone;
  }
  if (line->help) {
    std::fputs(parser.Help(line->command, line->noun).c_str(), stdout);
    return kExitDone;
  }
  absl::Duration timeout;
  if (!absl::ParseDuration(line->Flag("timeout"), &timeout) || timeout <= absl::ZeroDuration()) {
    return Fail(absl::InvalidArgumentError(
        absl::StrCat("--timeout '", line->Flag("timeout"), "' isn't a duration above zero, like 500ms, 30s or 2m")));
  }
  const std::string output = line->Flag("output");
  if (output != "table" && output != "json") {
    return Fail(absl::InvalidArgumentError(absl::StrCat("--output '", output, "' is neither table nor json")));
  }
  CoordinatorClient client(line->Flag("coordinator"), timeout);
  return RunCommand(CommandContext{*line, client, output == "json"});
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) { return penstock::Main(std::vector<std::string>(argv + 1, argv + argc)); }
