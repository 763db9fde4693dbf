#include "services/base/flags.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/base/version.h"

namespace penstock {
namespace {

std::string& ProgramName() {
  static std::string& name = *new std::string("penstock");
  return name;
}

}  // namespace

void ParseFlags(int argc, char** argv, const std::string& usage) {
  const std::string path = argv[0];
  ProgramName() = path.substr(path.rfind('/') + 1);
  absl::SetProgramUsageMessage(
      absl::StrCat(usage, "\n\n$PENSTOCK_LOG sets what is logged: trace, debug, info (default), warn, error, off."));
  absl::FlagsUsageConfig config;
  // Flags of the file with main; those of libraries would only confuse.
  config.contains_help_flags = [](absl::string_view file) { return absl::StrContains(file, "main.cc"); };
  config.contains_helpshort_flags = config.contains_help_flags;
  config.version_string = [] { return absl::StrCat(ProgramName(), " ", kVersion, "\n"); };
  absl::SetFlagsUsageConfig(config);
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() > 1) {
    std::fprintf(stderr, "%s: unexpected argument '%s'; --help tells what there is\n", ProgramName().c_str(), rest[1]);
    std::exit(1);
  }
}

int ExitWithError(const absl::Status& status) {
  std::fprintf(stderr, "%s: %s\n", ProgramName().c_str(), std::string(status.message()).c_str());
  return 1;
}

}  // namespace penstock
