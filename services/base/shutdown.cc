#include "services/base/shutdown.h"

namespace penstock {

ShutdownSignals::ShutdownSignals() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGTERM);
  sigaddset(&signals_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
}

int ShutdownSignals::Wait() {
  int number = 0;
  while (sigwait(&signals_, &number) != 0) {
  }
  return number;
}

int ShutdownSignals::WaitFor(absl::Duration limit) {
  const timespec time = absl::ToTimespec(limit);
  const int number = sigtimedwait(&signals_, nullptr, &time);
  return number > 0 ? number : 0;
}

}  // namespace penstock
