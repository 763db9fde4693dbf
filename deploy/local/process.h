// A child process: started with a log file of its own, polled, signalled, reaped.
//
// The child gets a process group of its own, so that Ctrl-C in a terminal reaches only the parent, who ends its
// children in order; and the kernel sends it SIGTERM if the parent dies. Thread-compatible; use it from the main thread
// alone, because Linux ties that signal to the thread that started the child.
#ifndef PENSTOCK_DEPLOY_LOCAL_PROCESS_H_
#define PENSTOCK_DEPLOY_LOCAL_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace penstock {

class ChildProcess {
 public:
  struct Options {
    // For messages: "worker-2".
    std::string name;
    // The binary's path, then its arguments.
    std::vector<std::string> arguments;
    // Standard output and error are appended here; empty means the parent's.
    std::string log_path;
  };

  // NOT_FOUND when the binary can't be executed.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(Options options);

  // Kills the child if it still runs.
  ~ChildProcess();

  const std::string& name() const { return options_.name; }
  const Options& options() const { return options_; }
  pid_t pid() const { return pid_; }

  // True while the child runs. Reaps it once it has ended.
  bool Running();
  // "exit code 1", "signal 9 (Killed)"; empty while it runs.
  std::string EndReason() const;

  // The exit code as a shell shows it: 128 + signal number for a death by signal. Only once it has ended.
  int ExitCode() const;

  void Signal(int signal_number);
  // Waits for the end; true if it came in time.
  bool WaitForEnd(absl::Duration limit);

  // The last lines of the log, for an error message.
  std::string LogTail(int lines) const;

 private:
  ChildProcess(Options options, pid_t pid) : options_(std::move(options)), pid_(pid) {}

  const Options options_;
  const pid_t pid_;
  // The status of waitpid, once the child has been reaped.
  std::optional<int> wait_status_;
};

}  // namespace penstock

#endif  // PENSTOCK_DEPLOY_LOCAL_PROCESS_H_
