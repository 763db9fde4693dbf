// Deadlines of calls: a client sets one on every call, a server sees what is left. Thread-compatible.
#ifndef PENSTOCK_SERVICES_RPC_DEADLINE_H_
#define PENSTOCK_SERVICES_RPC_DEADLINE_H_

#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>

#include "absl/time/time.h"

namespace penstock {

// The call ends with DEADLINE_EXCEEDED `timeout` from now. An infinite one leaves it without a deadline.
void SetDeadline(grpc::ClientContext& context, absl::Duration timeout);

// What the caller still gives us, zero when it is over; infinite when it set no deadline.
absl::Duration TimeLeft(const grpc::ServerContextBase& context);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_RPC_DEADLINE_H_
