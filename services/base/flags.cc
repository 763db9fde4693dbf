#include "services/base/flags.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string_view>
#include <vector>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/flags/usage.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/base/version.h"

namespace penstock {
namespace {

constexpr char kEnvironmentHelp[] =
    "Environment:\n"
    "  PENSTOCK_LOG    what is logged to standard error: debug, info (the default), warning, error or off\n";

// The library defines flags too (--flagfile and the like); people don't look for those.
bool IsOurs(const absl::CommandLineFlag& flag) {
  const std::string file = flag.Filename();
  return !absl::StrContains(file, "absl/") && !absl::StrContains(file, "flags/internal/") &&
         !absl::StrContains(file, "flags/parse.cc") && !absl::StrContains(file, "flags/reflection.cc");
}

// A string's default in quotes when it would vanish otherwise.
std::string Default(const absl::CommandLineFlag& flag) {
  const std::string value = flag.DefaultValue();
  return value.empty() ? "''" : value;
}

std::string Program(const std::string& usage) { return usage.substr(0, usage.find(':')); }

// Abseil's own --help lists internals and exits with 1, so the words that ask for help are taken before it sees them.
void ServeHelp(int argc, char** argv, const std::string& usage) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--") return;
    if (argument == "--help" || argument == "-help" || argument == "-h") {
      std::fputs(FlagsHelp(usage).c_str(), stdout);
      std::exit(0);
    }
    if (argument == "--version" || argument == "-version") {
      std::printf("%s %s\n", Program(usage).c_str(), kVersion);
      std::exit(0);
    }
  }
}

}  // namespace

std::string FlagsHelp(const std::string& usage) {
  std::map<std::string, std::string> entries;
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (!IsOurs(*flag)) continue;
    entries[std::string(name)] = absl::StrCat("  --", name, "=", Default(*flag), "\n        ", flag->Help(), "\n");
  }
  std::string help = absl::StrCat(usage, usage.ends_with('\n') ? "" : "\n", "\nFlags, with their defaults:\n");
  for (const auto& [name, entry] : entries) absl::StrAppend(&help, entry);
  absl::StrAppend(&help, "  --help, --version\n        print this, or the version, and exit\n\n", kEnvironmentHelp);
  return help;
}

void ParseFlags(int argc, char** argv, const std::string& usage) {
  ServeHelp(argc, argv, usage);
  absl::SetProgramUsageMessage(usage);
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  if (arguments.size() > 1) {
    std::fprintf(stderr, "%s: '%s' is not a flag, and nothing else is expected; --help lists the flags\n",
                 Program(usage).c_str(), arguments[1]);
    std::exit(1);
  }
}

}  // namespace penstock
