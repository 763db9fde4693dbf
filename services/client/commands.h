// The commands of penstockctl. Each one takes the checked command line and returns the process's exit code: 0 done, 1
// failed, 2 the job can't be placed. Results go to standard output, everything else to standard error.
#ifndef PENSTOCK_SERVICES_CLIENT_COMMANDS_H_
#define PENSTOCK_SERVICES_CLIENT_COMMANDS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "services/client/command_line.h"
#include "services/client/coordinator_client.h"

namespace penstock {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitNotPlaced = 2;

struct CommandContext {
  const CommandLine& line;
  CoordinatorClient& client;
  // -o json.
  bool json = false;
};

// The parser with every command and flag.
const CommandLineParser& Commands();
// Runs the command of `context.line`.
int RunCommand(const CommandContext& context);

// Prints "penstockctl: MESSAGE" and returns the exit code that fits the status.
int Fail(const absl::Status& status);

// What the last of `words` may become, for a shell's completion.
int PrintCandidates(const std::vector<std::string>& words);

int PrintCompletionScript(const CommandContext& context);
int JobSubmit(const CommandContext& context);
int JobList(const CommandContext& context);
int JobShow(const CommandContext& context);
int JobWatch(const CommandContext& context);
int JobHistory(const CommandContext& context);
int JobPlot(const CommandContext& context);
int JobCancel(const CommandContext& context);
int JobEvents(const CommandContext& context);
int PlanJob(const CommandContext& context);
int WorkerList(const CommandContext& context);
int WorkerShow(const CommandContext& context);
int CheckpointList(const CommandContext& context);
int CheckpointVerify(const CommandContext& context);
int CheckpointDiff(const CommandContext& context);
int CheckpointExport(const CommandContext& context);
int CheckpointImport(const CommandContext& context);
int Generate(const CommandContext& context);

// What a folder on this machine stands for: the newest checkpoint in it, or, where it has none, itself.
absl::StatusOr<std::string> CheckpointIn(const std::string& folder);

// That of the folder named, or the newest checkpoint of the job named.
absl::StatusOr<std::string> CheckpointPath(const CommandContext& context, const std::string& name);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CLIENT_COMMANDS_H_
