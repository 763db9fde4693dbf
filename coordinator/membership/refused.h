// Whether a process is gone for good, asked of its host: the host answers, and nobody listens where the process did.
// Thread-safe.
#ifndef PENSTOCK_COORDINATOR_MEMBERSHIP_REFUSED_H_
#define PENSTOCK_COORDINATOR_MEMBERSHIP_REFUSED_H_

#include <string>

#include "absl/time/time.h"

namespace penstock {

// True when every address of "host:port" refuses a connection. False for everything else, and where no answer comes
// within `limit` (each address): a host that is away, a process that is paused, a name that isn't known. Blocks.
bool ConnectionRefused(const std::string& address, absl::Duration limit);

}  // namespace penstock

#endif  // PENSTOCK_COORDINATOR_MEMBERSHIP_REFUSED_H_
