// The command line of penstockctl: `penstockctl NOUN VERB [arguments] [--flag=value]`.
//
// A small parser of our own: Abseil's flags know neither subcommands, nor short names, nor a help text for each
// command. Flags may stand anywhere; `--flag value` and `--flag=value` are the same; `--` ends the flags; a single `-`
// is an argument. A global flag that isn't given is taken from its environment variable. Pure; thread-compatible.
#ifndef PENSTOCK_SERVICES_CLIENT_COMMAND_LINE_H_
#define PENSTOCK_SERVICES_CLIENT_COMMAND_LINE_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

struct FlagSpec {
  // Without dashes: "coordinator".
  std::string name;
  // Without dash: "o"; empty for none.
  std::string short_name;
  // What stands for the value in the help: "HOST:PORT"; empty for a switch.
  std::string value;
  std::string help;
  // Global flags only; empty for none.
  std::string environment = {};
  std::string default_value = {};
  // May be given several times.
  bool repeated = false;
};

struct CommandSpec {
  std::string noun;
  // Empty for a command of one word.
  std::string verb;
  // Names of the positional arguments: "FILE"; "[JOB]" is optional; a last one "JOB..." may be given several times.
  std::vector<std::string> arguments;
  std::string summary;
  // More lines for the command's own help; may be empty.
  std::string details = {};
  std::vector<FlagSpec> flags = {};

  // "job submit".
  std::string Name() const { return verb.empty() ? noun : noun + " " + verb; }
  size_t words() const { return verb.empty() ? 1 : 2; }
  bool IsNamedBy(const std::vector<std::string>& typed) const {
    return typed.size() >= words() && typed[0] == noun && (verb.empty() || typed[1] == verb);
  }
};

// What the user typed, checked against the command's spec.
struct CommandLine {
  const CommandSpec* command = nullptr;
  // The user asked for help: of `command`; where that is null of all commands of `noun`, or of everything.
  bool help = false;
  std::string noun = {};
  bool version = false;
  std::vector<std::string> arguments;
  std::map<std::string, std::vector<std::string>> flags;

  // The flag's last value; its default when it wasn't given.
  std::string Flag(const std::string& name) const;
  std::vector<std::string> Flags(const std::string& name) const;
  bool Has(const std::string& name) const { return flags.count(name) > 0; }
};

class CommandLineParser {
 public:
  using Environment = std::function<const char*(const char*)>;

  // `notes` stand behind the list of all commands.
  CommandLineParser(std::string program, std::string summary, std::vector<FlagSpec> global_flags,
                    std::vector<CommandSpec> commands, std::string notes = "");

  // INVALID_ARGUMENT says what is wrong and what would be right ("no command 'job sbmit'; did you mean 'job submit'?").
  absl::StatusOr<CommandLine> Parse(const std::vector<std::string>& arguments, const Environment& environment) const;

  // The help of everything, of a noun's commands, or of one command.
  std::string Help(const CommandSpec* command = nullptr, const std::string& noun = "") const;

  const std::vector<FlagSpec>& global_flags() const { return global_flags_; }
  const std::vector<CommandSpec>& commands() const { return commands_; }

 private:
  absl::StatusOr<const CommandSpec*> FindCommand(const std::vector<std::string>& words) const;
  absl::Status CheckArguments(const CommandLine& line) const;

  const std::string program_;
  const std::string summary_;
  const std::string notes_;
  const std::vector<FlagSpec> global_flags_;
  const std::vector<CommandSpec> commands_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CLIENT_COMMAND_LINE_H_
