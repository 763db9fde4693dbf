// gRPC's own messages go to our log: its errors as warnings (they are a connection's, not the process's).
#ifndef PENSTOCK_SERVICES_RPC_GRPC_LOG_H_
#define PENSTOCK_SERVICES_RPC_GRPC_LOG_H_

namespace penstock {

// Once for each process; later calls do nothing. Thread-safe.
void RouteGrpcLog();

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_RPC_GRPC_LOG_H_
