// SIGTERM and SIGINT as something to wait for.
//
//   ShutdownSignal::Install();             // early in main
//   ...
//   ShutdownSignal::Wait();                // until a signal, or Request()
//   server->Stop();
//
// The handler only writes to a file descriptor. A second SIGINT (an impatient Ctrl-C) ends the process the usual way; a
// second SIGTERM changes nothing. Child processes inherit neither handlers nor the descriptor. Thread-safe after
// Install().
#ifndef PENSTOCK_SERVICES_BASE_SHUTDOWN_H_
#define PENSTOCK_SERVICES_BASE_SHUTDOWN_H_

#include "absl/time/time.h"

namespace penstock {

// How a process ends that can't go on where a new one may: sysexits.h's EX_TEMPFAIL. Whoever looks after it starts
// another.
inline constexpr int kExitForAnother = 75;

class ShutdownSignal {
 public:
  // To be called before anything else of this class; again without harm. Writing to a closed connection gives EPIPE
  // from then on, not SIGPIPE (child processes inherit that).
  static void Install();

  // Whether a signal came, or Request() was called.
  static bool requested();
  static void Wait();
  // Waits at most `timeout`; then as requested().
  static bool WaitFor(absl::Duration timeout);
  // Asks for the shutdown from within: an incarnation that was replaced, say.
  static void Request();
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_BASE_SHUTDOWN_H_
