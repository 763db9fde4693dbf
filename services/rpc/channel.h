// Channels as every client of the cluster makes them: keepalive, quick reconnects, message limits, no proxy.
//
//   auto stub = v1::Coordinator::NewStub(CreateChannel("127.0.0.1:7000"));
#ifndef PENSTOCK_SERVICES_RPC_CHANNEL_H_
#define PENSTOCK_SERVICES_RPC_CHANNEL_H_

#include <memory>
#include <string>

#include <grpcpp/channel.h>

#include "services/base/limits.h"

namespace penstock {

struct ChannelOptions {
  size_t message_bytes_max = kRpcMessageBytesMax;
  int keepalive_ms = kRpcKeepaliveMs;
  int keepalive_timeout_ms = kRpcKeepaliveTimeoutMs;
  int reconnect_ms_min = kRpcReconnectMsMin;
  int reconnect_ms_max = kRpcReconnectMsMax;
  int connect_ms_max = kRpcConnectMsMax;
  // Several channels of one process to the same address on one TCP connection. By default each has its own, so that
  // channels run in parallel, and one's back-off isn't another's.
  bool share_connection = false;
};

// Connects when it is first used, and again by itself. Never null; an address that makes no sense shows as UNAVAILABLE
// in the first call.
std::shared_ptr<grpc::Channel> CreateChannel(const std::string& address, const ChannelOptions& options = {});

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_RPC_CHANNEL_H_
