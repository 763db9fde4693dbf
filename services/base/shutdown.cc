#include "services/base/shutdown.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

#include "absl/time/clock.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

// An eventfd that is never read: once written it stays readable, for any number of waiters.
int event_fd = -1;

void Notify() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then it is readable anyway.
  [[maybe_unused]] const ssize_t written = write(event_fd, &one, sizeof(one));
}

void OnSignal(int) {
  const int saved_errno = errno;
  Notify();
  errno = saved_errno;
}

}  // namespace

void ShutdownSignal::Install() {
  if (event_fd < 0) {
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    PENSTOCK_CHECK(event_fd >= 0);
  }
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  PENSTOCK_CHECK(sigaction(SIGTERM, &action, nullptr) == 0);
  // Back to the default after the first one.
  action.sa_flags = SA_RESTART | SA_RESETHAND;
  PENSTOCK_CHECK(sigaction(SIGINT, &action, nullptr) == 0);
  action = {};
  action.sa_handler = SIG_IGN;
  PENSTOCK_CHECK(sigaction(SIGPIPE, &action, nullptr) == 0);
}

bool ShutdownSignal::requested() { return WaitFor(absl::ZeroDuration()); }

void ShutdownSignal::Wait() { WaitFor(absl::InfiniteDuration()); }

bool ShutdownSignal::WaitFor(absl::Duration timeout) {
  PENSTOCK_CHECK(event_fd >= 0);
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    pollfd waiting = {.fd = event_fd, .events = POLLIN, .revents = 0};
    const absl::Duration left = std::clamp(deadline - absl::Now(), absl::ZeroDuration(), absl::Hours(1));
    const int ready =
        poll(&waiting, 1, static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1)))));
    if (ready > 0) return true;
    if (absl::Now() >= deadline) return false;
  }
}

void ShutdownSignal::Request() {
  PENSTOCK_CHECK(event_fd >= 0);
  Notify();
}

}  // namespace penstock
