// Addresses as flags and cluster files carry them: "127.0.0.1:7000", "host:7000", "[::1]:7000". Pure; thread-safe.
#ifndef PENSTOCK_SERVICES_RPC_ADDRESS_H_
#define PENSTOCK_SERVICES_RPC_ADDRESS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace penstock {

struct HostPort {
  // Without brackets.
  std::string host;
  int port = 0;

  // With brackets where the host is an IPv6 address.
  std::string ToString() const;
};

// INVALID_ARGUMENT says what is wrong: no port, a port that is no number or above 65535, no host.
absl::StatusOr<HostPort> ParseHostPort(absl::string_view text);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_RPC_ADDRESS_H_
