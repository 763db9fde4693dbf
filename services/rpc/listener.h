// A listening TCP socket, with errors for people. For servers of our own, and to find out why a library's server
// couldn't listen. Thread-safe.
#ifndef PENSTOCK_SERVICES_RPC_LISTENER_H_
#define PENSTOCK_SERVICES_RPC_LISTENER_H_

#include "absl/status/statusor.h"
#include "services/rpc/address.h"

namespace penstock {

// A socket that listens at the address, close-on-exec and non-blocking; the caller closes it. Port 0 takes any free
// one. ALREADY_EXISTS when another process listens there, INVALID_ARGUMENT for a host that has no address, UNAVAILABLE
// otherwise (an address of another machine, a port that needs rights); each names the address.
absl::StatusOr<int> OpenListener(const HostPort& address);

// The port that a socket is bound to.
absl::StatusOr<int> BoundPort(int socket);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_RPC_LISTENER_H_
