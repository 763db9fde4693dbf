#include "services/client/follow.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "services/client/output.h"

namespace penstock {
namespace {

// How long a coordinator that is being restarted is waited for.
constexpr absl::Duration kAwayLimit = absl::Minutes(2);
// Between lines where nobody can rewrite one.
constexpr absl::Duration kLineInterval = absl::Seconds(5);

// The progress line on standard error.
class ProgressDisplay {
 public:
  ProgressDisplay() : terminal_(isatty(STDERR_FILENO) == 1) {}

  void Show(const v1::JobStatus& job) {
    const absl::Time now = absl::Now();
    if (terminal_) {
      std::fprintf(stderr, "\r\033[K%s", ProgressLine(job, Width() - 1).c_str());
    } else if (job.state() != last_state_ || job.message() != last_message_ || now - last_shown_ >= kLineInterval) {
      std::fprintf(stderr, "%s\n", ProgressLine(job, 0).c_str());
    } else {
      return;
    }
    std::fflush(stderr);
    last_shown_ = now;
    last_state_ = job.state();
    last_message_ = job.message();
    open_line_ = terminal_;
  }

  // A line of its own.
  void Say(const std::string& line) {
    Finish();
    std::fprintf(stderr, "%s\n", line.c_str());
  }

  void Finish() {
    if (open_line_) std::fputc('\n', stderr);
    open_line_ = false;
  }

 private:
  static int Width() {
    winsize size{};
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 100;
  }

  const bool terminal_;
  bool open_line_ = false;
  absl::Time last_shown_ = absl::InfinitePast();
  v1::JobState last_state_ = v1::JOB_STATE_UNSPECIFIED;
  std::string last_message_;
};

}  // namespace

int FollowJob(const CommandContext& context, const std::string& job) {
  ProgressDisplay display;
  auto last = context.client.WatchJob(
      job, kAwayLimit, [&](const v1::JobStatus& status) { display.Show(status); },
      [&] { display.Say("the coordinator is away; waiting for it"); });
  display.Finish();
  if (!last.ok()) return Fail(last.status());
  if (context.json) {
    std::printf("%s\n", JobJson(*last).dump(2).c_str());
  } else {
    std::fputs(DescribeJob(*last).c_str(), stdout);
  }
  return last->state() == v1::JOB_STATE_SUCCEEDED ? kExitDone : kExitFailed;
}

}  // namespace penstock
