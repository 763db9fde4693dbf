#include "services/client/completion.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "services/jobfile/complete_override.h"

namespace penstock {
namespace {

constexpr char kBash[] = R"SHELL(# bash completion for penstockctl. Load it with: source <(penstockctl completion bash)
_penstockctl() {
  local line="${COMP_LINE:0:COMP_POINT}" words=() text rest prefix files=
  read -ra words <<< "$line"
  [[ -z "$line" || "$line" == *[[:space:]] ]] && words+=("")
  local typed="${words[${#words[@]}-1]}"
  # bash takes a word apart at these, and wants only the last part back.
  prefix="${typed%"${typed##*[=:]}"}"
  COMPREPLY=()
  while IFS=$'\t' read -r text rest; do
    if [[ "$text" == ":files" ]]; then files=1; else COMPREPLY+=("${text#"$prefix"}"); fi
  done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
  if [[ -n "$files" ]]; then
    while IFS= read -r text; do COMPREPLY+=("$text"); done < <(compgen -f -- "${typed#"$prefix"}")
    compopt -o filenames 2>/dev/null
  fi
  # A path that goes on needs no space behind it.
  [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *[=.] ]] && compopt -o nospace 2>/dev/null
  return 0
}
complete -F _penstockctl penstockctl
)SHELL";

constexpr char kZsh[] = R"SHELL(#compdef penstockctl
# zsh completion for penstockctl. Load it with: source <(penstockctl completion zsh)
_penstockctl() {
  local text rest files
  local -a plain described open
  while IFS=$'\t' read -r text rest; do
    if [[ "$text" == ":files" ]]; then files=1
    elif [[ "$text" == *[=.] ]]; then open+=("$text")
    else plain+=("$text"); described+=("$text${rest:+  -- $rest}"); fi
  done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
  (( $#open )) && compadd -S '' -- "${open[@]}"
  (( $#plain )) && compadd -l -d described -- "${plain[@]}"
  [[ -n "$files" ]] && _files
  return 0
}
if [[ "$funcstack[1]" == "_penstockctl" ]]; then _penstockctl "$@"; else compdef _penstockctl penstockctl; fi
)SHELL";

constexpr char kFish[] = R"SHELL(# fish completion for penstockctl. Load it with: penstockctl completion fish | source
function __penstockctl_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] __complete $words[2..-1] 2>/dev/null)
    for line in $found
        if test "$line" = ":files"
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c penstockctl -f -a "(__penstockctl_complete)"
)SHELL";

// The words before the last one, taken apart without judging them.
struct Typed {
  std::vector<std::string> words;
  std::vector<std::string> flags;
  bool flags_ended = false;
  // The flag whose value comes next; null for none.
  const FlagSpec* open = nullptr;
  // Values of the flags that have one.
  std::map<std::string, std::string> values = {};
};

const FlagSpec* FindFlag(const CommandLineParser& parser, const std::string& word) {
  const bool short_name = !absl::StartsWith(word, "--");
  const std::string name = word.substr(short_name ? 1 : 2);
  const auto matches = [&](const FlagSpec& flag) { return (short_name ? flag.short_name : flag.name) == name; };
  const auto& global = parser.global_flags();
  if (auto it = std::find_if(global.begin(), global.end(), matches); it != global.end()) return &*it;
  for (const CommandSpec& command : parser.commands()) {
    const auto& flags = command.flags;
    if (auto it = std::find_if(flags.begin(), flags.end(), matches); it != flags.end()) return &*it;
  }
  return nullptr;
}

Typed TakeApart(const CommandLineParser& parser, const std::vector<std::string>& words) {
  Typed typed;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    if (typed.open != nullptr) {
      typed.values[typed.open->name] = words[i];
      typed.open = nullptr;
    } else if (typed.flags_ended || words[i].size() < 2 || words[i][0] != '-') {
      typed.words.push_back(words[i]);
    } else if (words[i] == "--") {
      typed.flags_ended = true;
    } else {
      const size_t equals = words[i].find('=');
      const FlagSpec* flag = FindFlag(parser, words[i].substr(0, equals));
      if (flag == nullptr) continue;
      typed.flags.push_back(flag->name);
      if (equals != std::string::npos) {
        typed.values[flag->name] = words[i].substr(equals + 1);
      } else if (!flag->value.empty()) {
        typed.open = flag;
      }
    }
  }
  return typed;
}

const CommandSpec* FindCommand(const CommandLineParser& parser, const std::vector<std::string>& words) {
  for (const CommandSpec& command : parser.commands()) {
    if (command.IsNamedBy(words)) return &command;
  }
  return nullptr;
}

class Candidates {
 public:
  explicit Candidates(std::string prefix) : prefix_(std::move(prefix)) {}

  void Add(const std::string& text, const std::string& description) {
    const auto same = [&](const Candidate& other) { return other.text == text; };
    if (!absl::StartsWith(text, prefix_) || std::any_of(found_.begin(), found_.end(), same)) return;
    found_.push_back({text, description});
  }
  void AddFiles() { found_.push_back({kCompleteFiles, ""}); }

  // What stands for "JOB|PATH", "[WORKER]", "table|json" or "KEY=VALUE". `before` is a part of the word that comes
  // before the value: "--output=".
  void AddKind(const std::string& kind, const std::string& before, const NameSource& names) {
    if (kind == "KEY=VALUE") {
      for (const std::string& text : CompleteOverride(prefix_.substr(before.size()))) Add(before + text, "");
      return;
    }
    for (std::string choice : std::vector<std::string>(absl::StrSplit(kind, '|'))) {
      choice = std::string(absl::StripSuffix(absl::StripPrefix(choice, "["), "]"));
      choice = std::string(absl::StripSuffix(choice, "..."));
      if (choice == "JOB" || choice == "WORKER") {
        for (const Candidate& name : names(choice)) Add(before + name.text, name.description);
      } else if (choice == "FILE" || choice == "PATH" || choice == "DIR") {
        AddFiles();
      } else if (std::all_of(choice.begin(), choice.end(), [](char c) { return c >= 'a' && c <= 'z'; })) {
        Add(before + choice, "");
      }
    }
  }

  std::vector<Candidate> Take() { return std::move(found_); }

 private:
  const std::string prefix_;
  std::vector<Candidate> found_;
};

void AddFlags(const std::vector<FlagSpec>& flags, const Typed& typed, Candidates& found) {
  for (const FlagSpec& flag : flags) {
    const bool given = std::find(typed.flags.begin(), typed.flags.end(), flag.name) != typed.flags.end();
    if (!given || flag.repeated) found.Add(absl::StrCat("--", flag.name), flag.help);
  }
}

}  // namespace

std::vector<Candidate> Complete(const CommandLineParser& parser, const std::vector<std::string>& words,
                                const NameSource& names) {
  if (words.empty()) return {};
  const std::string& last = words.back();
  const Typed typed = TakeApart(parser, words);
  const CommandSpec* command = FindCommand(parser, typed.words);
  Candidates found(last);
  if (typed.open != nullptr) {
    found.AddKind(typed.open->value, "", names);
  } else if (!typed.flags_ended && absl::StartsWith(last, "-")) {
    const size_t equals = last.find('=');
    if (equals != std::string::npos) {
      const FlagSpec* flag = FindFlag(parser, last.substr(0, equals));
      if (flag != nullptr) found.AddKind(flag->value, last.substr(0, equals + 1), names);
    } else {
      if (command != nullptr) AddFlags(command->flags, typed, found);
      AddFlags(parser.global_flags(), typed, found);
      found.Add("--help", "what it does and its flags");
    }
  } else if (typed.words.empty()) {
    for (const CommandSpec& spec : parser.commands()) found.Add(spec.noun, spec.verb.empty() ? spec.summary : "");
  } else if (typed.words.size() == 1 && command == nullptr) {
    for (const CommandSpec& spec : parser.commands()) {
      if (spec.noun == typed.words[0]) found.Add(spec.verb, spec.summary);
    }
  } else if (command != nullptr && !command->arguments.empty()) {
    const size_t index = typed.words.size() - command->words();
    const bool open_end = absl::StrContains(command->arguments.back(), "...");
    if (index < command->arguments.size() || open_end) {
      found.AddKind(command->arguments[std::min(index, command->arguments.size() - 1)], "", names);
    }
  }
  return found.Take();
}

std::string TypedFlag(const CommandLineParser& parser, const std::vector<std::string>& words, const std::string& name,
                      const CommandLineParser::Environment& environment) {
  const Typed typed = TakeApart(parser, words);
  if (auto it = typed.values.find(name); it != typed.values.end()) return it->second;
  for (const FlagSpec& flag : parser.global_flags()) {
    if (flag.name != name) continue;
    const char* value = flag.environment.empty() ? nullptr : environment(flag.environment.c_str());
    return value != nullptr && *value != '\0' ? value : flag.default_value;
  }
  return "";
}

absl::StatusOr<std::string> CompletionScript(const std::string& shell) {
  if (shell == "bash") return kBash;
  if (shell == "zsh") return kZsh;
  if (shell == "fish") return kFish;
  return absl::NotFoundError(
      absl::StrCat("there is no completion for ", shell, "; there is one for bash, zsh and fish"));
}

}  // namespace penstock
