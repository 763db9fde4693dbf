// Limits that more than one service keeps to. What only one folder needs stands in a limits.h of its own.
#ifndef PENSTOCK_SERVICES_BASE_LIMITS_H_
#define PENSTOCK_SERVICES_BASE_LIMITS_H_

#include <cstddef>

#include "absl/time/time.h"

namespace penstock {

// One gRPC message, either way. Bulk data goes in chunks well below it.
inline constexpr size_t kRpcMessageBytesMax = 16 << 20;
// Payload of one chunk of weights, gradients or checkpoint data.
inline constexpr size_t kChunkBytesMax = 1 << 20;
// What a chunk's message carries beside its payload: job id, ranges, checksum.
inline constexpr size_t kChunkHeaderBytesMax = 64 << 10;
static_assert(kChunkBytesMax + kChunkHeaderBytesMax <= kRpcMessageBytesMax);
// What a stream's sender may be ahead of its reader: a fixed window. gRPC's own way, to measure the connection by pings
// and to adapt, costs streams of chunks a fifth of their speed.
inline constexpr int kRpcStreamWindowBytes = 4 << 20;
static_assert(kRpcStreamWindowBytes >= 2 * (kChunkBytesMax + kChunkHeaderBytesMax), "a chunk comes in beside another");

// Threads that a server uses for synchronous handlers; calls beyond them get RESOURCE_EXHAUSTED.
inline constexpr int kRpcServerThreadsMax = 256;

// A ping on a silent connection, and how long its answer may take: a peer that vanished without a word is found after
// the sum of the two.
inline constexpr int kRpcKeepaliveMs = 10'000;
inline constexpr int kRpcKeepaliveTimeoutMs = 5'000;
// A server closes connections that ping more often than this.
inline constexpr int kRpcPingIntervalMsMin = 1'000;
static_assert(kRpcPingIntervalMsMin * 2 <= kRpcKeepaliveMs, "servers must put up with our own clients' pings");

// Between two attempts to connect.
inline constexpr int kRpcReconnectMsMin = 100;
inline constexpr int kRpcReconnectMsMax = 1'000;
static_assert(kRpcReconnectMsMin <= kRpcReconnectMsMax);
// One attempt to connect, handshakes included.
inline constexpr int kRpcConnectMsMax = 5'000;

// How long a server waits for the calls under way when it stops, before it cancels them.
inline constexpr absl::Duration kRpcStopGrace = absl::Seconds(1);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_BASE_LIMITS_H_
