#include "services/client/command_line.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "services/jobfile/suggest.h"

namespace penstock {
namespace {

constexpr int kHelpColumn = 34;

const FlagSpec* FindFlag(const std::vector<FlagSpec>& flags, const std::string& name, bool short_name) {
  for (const FlagSpec& flag : flags) {
    if ((short_name ? flag.short_name : flag.name) == name) return &flag;
  }
  return nullptr;
}

void AppendColumns(const std::string& left, const std::string& right, std::string* out) {
  std::string padded = absl::StrCat("  ", left);
  if (padded.size() + 2 > kHelpColumn) {
    absl::StrAppend(out, padded, "\n", std::string(kHelpColumn, ' '), right, "\n");
  } else {
    padded.resize(kHelpColumn, ' ');
    absl::StrAppend(out, padded, right, "\n");
  }
}

std::string FlagUsage(const FlagSpec& flag) {
  std::string usage = flag.short_name.empty() ? "" : absl::StrCat("-", flag.short_name, ", ");
  absl::StrAppend(&usage, "--", flag.name);
  if (!flag.value.empty()) absl::StrAppend(&usage, " ", flag.value);
  return usage;
}

std::string FlagHelp(const FlagSpec& flag) {
  std::string help = flag.help;
  if (!flag.default_value.empty()) absl::StrAppend(&help, " (default ", flag.default_value, ")");
  if (!flag.environment.empty()) absl::StrAppend(&help, " [$", flag.environment, "]");
  return help;
}

std::string CommandUsage(const CommandSpec& command) {
  return absl::StrCat(command.Name(), command.arguments.empty() ? "" : " ", absl::StrJoin(command.arguments, " "));
}

// A flag as typed, taken apart.
struct Typed {
  std::string name;
  bool short_name = false;
  bool has_value = false;
  std::string value;
};

Typed TakeApart(const std::string& word) {
  Typed typed;
  typed.short_name = !absl::StartsWith(word, "--");
  std::string body = word.substr(typed.short_name ? 1 : 2);
  size_t equals = body.find('=');
  typed.name = body.substr(0, equals);
  if (equals != std::string::npos) {
    typed.has_value = true;
    typed.value = body.substr(equals + 1);
  }
  return typed;
}

bool IsFlag(const std::string& word) { return word.size() > 1 && word[0] == '-'; }

}  // namespace

std::string CommandLine::Flag(const std::string& name) const {
  auto it = flags.find(name);
  return it == flags.end() || it->second.empty() ? "" : it->second.back();
}

std::vector<std::string> CommandLine::Flags(const std::string& name) const {
  auto it = flags.find(name);
  return it == flags.end() ? std::vector<std::string>() : it->second;
}

CommandLineParser::CommandLineParser(std::string program, std::string summary, std::vector<FlagSpec> global_flags,
                                     std::vector<CommandSpec> commands, std::string notes)
    : program_(std::move(program)),
      summary_(std::move(summary)),
      notes_(std::move(notes)),
      global_flags_(std::move(global_flags)),
      commands_(std::move(commands)) {}

absl::StatusOr<const CommandSpec*> CommandLineParser::FindCommand(const std::vector<std::string>& words) const {
  const std::string typed = absl::StrJoin(words.begin(), words.begin() + std::min<size_t>(2, words.size()), " ");
  std::vector<std::string> names;
  std::vector<std::string> verbs;
  for (const CommandSpec& command : commands_) {
    if (command.IsNamedBy(words)) return &command;
    names.push_back(command.Name());
    if (command.noun == words[0]) verbs.push_back(command.verb);
  }
  if (words.size() == 1 && !verbs.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("'", words[0], "' needs a verb: ", absl::StrJoin(verbs, ", ")));
  }
  const std::string nearest = NearestName(typed, names);
  return absl::InvalidArgumentError(absl::StrCat("there is no command '", typed, "'",
                                                 nearest.empty() ? absl::StrCat("; `", program_, " --help` lists them")
                                                                 : absl::StrCat("; did you mean '", nearest, "'?")));
}

absl::StatusOr<CommandLine> CommandLineParser::Parse(const std::vector<std::string>& arguments,
                                                     const Environment& environment) const {
  // The command first: its flags decide whether a word behind a flag is the flag's value.
  std::vector<FlagSpec> every_flag = global_flags_;
  for (const CommandSpec& command : commands_) {
    every_flag.insert(every_flag.end(), command.flags.begin(), command.flags.end());
  }
  CommandLine line;
  std::vector<std::string> words;
  std::vector<std::string> given;
  bool flags_ended = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (flags_ended || !IsFlag(word)) {
      words.push_back(word);
      continue;
    }
    if (word == "--") {
      flags_ended = true;
      continue;
    }
    Typed typed = TakeApart(word);
    if (typed.name == "help" || (typed.short_name && typed.name == "h")) {
      line.help = true;
      continue;
    }
    if (typed.name == "version" && !typed.short_name) {
      line.version = true;
      continue;
    }
    const FlagSpec* flag = FindFlag(every_flag, typed.name, typed.short_name);
    if (flag == nullptr) {
      std::vector<std::string> names;
      for (const FlagSpec& known : every_flag) names.push_back(known.name);
      const std::string nearest = NearestName(typed.name, names);
      return absl::InvalidArgumentError(
          absl::StrCat("there is no flag '", word.substr(0, word.find('=')), "'",
                       nearest.empty() ? "" : absl::StrCat("; did you mean '--", nearest, "'?")));
    }
    if (flag->value.empty() && typed.has_value) {
      return absl::InvalidArgumentError(absl::StrCat("--", flag->name, " takes no value"));
    }
    if (!flag->value.empty() && !typed.has_value) {
      if (i + 1 >= arguments.size()) {
        return absl::InvalidArgumentError(absl::StrCat("--", flag->name, " needs a value: ", FlagUsage(*flag)));
      }
      typed.value = arguments[++i];
    }
    std::vector<std::string>& values = line.flags[flag->name];
    if (!flag->repeated) values.clear();
    values.push_back(typed.value);
    given.push_back(flag->name);
  }
  if (line.version || (words.empty() && line.help)) return line;
  if (words.empty())
    return absl::InvalidArgumentError(absl::StrCat("a command is missing; `", program_, " --help` lists them"));
  if (line.help && words.size() == 1) {
    line.noun = words[0];
    if (std::any_of(commands_.begin(), commands_.end(),
                    [&](const auto& spec) { return spec.noun == words[0] && !spec.verb.empty(); })) {
      return line;
    }
  }
  PENSTOCK_ASSIGN_OR_RETURN(line.command, FindCommand(words));
  if (line.help) return line;
  line.arguments.assign(words.begin() + static_cast<ptrdiff_t>(line.command->words()), words.end());
  for (const std::string& name : given) {
    if (FindFlag(global_flags_, name, false) == nullptr && FindFlag(line.command->flags, name, false) == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("'", line.command->Name(), "' has no flag --", name));
    }
  }
  for (const FlagSpec& flag : global_flags_) {
    if (line.Has(flag.name)) continue;
    const char* value = flag.environment.empty() ? nullptr : environment(flag.environment.c_str());
    if (value != nullptr && *value != '\0') {
      line.flags[flag.name] = {value};
    } else if (!flag.default_value.empty()) {
      line.flags[flag.name] = {flag.default_value};
    }
  }
  for (const FlagSpec& flag : line.command->flags) {
    if (!line.Has(flag.name) && !flag.default_value.empty()) line.flags[flag.name] = {flag.default_value};
  }
  PENSTOCK_RETURN_IF_ERROR(CheckArguments(line));
  return line;
}

absl::Status CommandLineParser::CheckArguments(const CommandLine& line) const {
  const std::vector<std::string>& expected = line.command->arguments;
  const size_t required =
      std::count_if(expected.begin(), expected.end(), [](const std::string& name) { return name[0] != '['; });
  if (line.arguments.size() < required) {
    return absl::InvalidArgumentError(
        absl::StrCat(expected[line.arguments.size()], " is missing: ", program_, " ", CommandUsage(*line.command)));
  }
  const bool open_end = !expected.empty() && absl::StrContains(expected.back(), "...");
  if (line.arguments.size() > expected.size() && !open_end) {
    return absl::InvalidArgumentError(absl::StrCat("'", line.arguments[expected.size()], "' is one argument too many: ",
                                                   program_, " ", CommandUsage(*line.command)));
  }
  return absl::OkStatus();
}

std::string CommandLineParser::Help(const CommandSpec* command, const std::string& noun) const {
  std::string help;
  if (command == nullptr) {
    const std::string usage = noun.empty() ? "NOUN VERB [arguments]" : absl::StrCat(noun, " VERB [arguments]");
    absl::StrAppend(&help, summary_, "\n\nUsage: ", program_, " ", usage, " [flags]\n\nCommands:\n");
    for (const CommandSpec& spec : commands_) {
      if (noun.empty() || spec.noun == noun) AppendColumns(CommandUsage(spec), spec.summary, &help);
    }
    if (noun.empty() && !notes_.empty()) absl::StrAppend(&help, "\n", notes_, "\n");
  } else {
    absl::StrAppend(&help, command->summary, "\n\nUsage: ", program_, " ", CommandUsage(*command), " [flags]\n");
    if (!command->details.empty()) absl::StrAppend(&help, "\n", command->details, "\n");
    if (!command->flags.empty()) absl::StrAppend(&help, "\nFlags:\n");
    for (const FlagSpec& flag : command->flags) AppendColumns(FlagUsage(flag), FlagHelp(flag), &help);
  }
  absl::StrAppend(&help, "\nGlobal flags:\n");
  for (const FlagSpec& flag : global_flags_) AppendColumns(FlagUsage(flag), FlagHelp(flag), &help);
  AppendColumns("-h, --help", "this text; after a command, that command's", &help);
  AppendColumns("--version", "the version of this program", &help);
  absl::StrAppend(&help, "\nExit codes: 0 done, 1 failed, 2 the job can't be placed on the registered workers.\n");
  return help;
}

}  // namespace penstock
