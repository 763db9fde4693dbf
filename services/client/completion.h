// Shell completion. A shell's script (CompletionScript) only asks the program itself, with the words typed so far, what
// the last one may become; so a new command or flag completes without a line more.
//
//   penstockctl __complete job show fi     prints, for each candidate, its text, a tab and what it is
//
// Thread-safe: free functions without state.
#ifndef PENSTOCK_SERVICES_CLIENT_COMPLETION_H_
#define PENSTOCK_SERVICES_CLIENT_COMPLETION_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/client/command_line.h"

namespace penstock {

// The hidden first argument.
inline constexpr char kCompleteWord[] = "__complete";
// Printed in place of a candidate where a file's name may stand; the shell knows those.
inline constexpr char kCompleteFiles[] = ":files";

struct Candidate {
  // The whole word.
  std::string text;
  // Shown beside it; may be empty.
  std::string description;
};

// The names of a kind that the cluster has: of "JOB" or "WORKER". Empty when it isn't there.
using NameSource = std::function<std::vector<Candidate>(const std::string& kind)>;

// What `words.back()` may become behind the words before it, in the order in which they are shown.
std::vector<Candidate> Complete(const CommandLineParser& parser, const std::vector<std::string>& words,
                                const NameSource& names);

// A global flag's value in words that are still being typed: as typed, else its environment variable, else its default.
std::string TypedFlag(const CommandLineParser& parser, const std::vector<std::string>& words, const std::string& name,
                      const CommandLineParser::Environment& environment);

// The script for "bash", "zsh" or "fish"; NOT_FOUND for another shell.
absl::StatusOr<std::string> CompletionScript(const std::string& shell);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CLIENT_COMPLETION_H_
