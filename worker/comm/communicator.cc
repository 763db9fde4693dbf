#include "worker/comm/communicator.h"

#include <charconv>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

constexpr char kPeerPayload[] = "penstock.v1/peer_rank";

}  // namespace

absl::Status WithPeer(absl::Status status, int peer) {
  if (!status.ok()) status.SetPayload(kPeerPayload, absl::Cord(std::to_string(peer)));
  return status;
}

std::optional<int> PeerOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kPeerPayload);
  if (!payload.has_value()) return std::nullopt;
  const std::string text(*payload);
  int peer = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), peer);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return peer;
}

absl::Status Communicator::CheckMessage(int peer, Tag tag, size_t bytes) const {
  if (peer < 0 || peer >= size() || peer == rank()) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", rank(), " of ", size(), " can't exchange messages with rank ", peer));
  }
  if (bytes == 0 || bytes > kMessageBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a message of ", bytes, " bytes; it must have 1 to ", kMessageBytesMax));
  }
  if (tag >= kTagLimit) {
    return absl::InvalidArgumentError(absl::StrCat("tag ", tag, " is not below ", kTagLimit));
  }
  return absl::OkStatus();
}

absl::Status Communicator::Send(int peer, Tag tag, absl::Span<const std::byte> data) {
  absl::StatusOr<std::shared_ptr<Transfer>> transfer = StartSend(peer, tag, data);
  if (!transfer.ok()) return transfer.status();
  return (*transfer)->Wait();
}

absl::Status Communicator::Recv(int peer, Tag tag, absl::Span<std::byte> data) {
  absl::StatusOr<std::shared_ptr<Transfer>> transfer = StartRecv(peer, tag, data);
  if (!transfer.ok()) return transfer.status();
  return (*transfer)->Wait();
}

Communicator::Counters Communicator::counters() const {
  return {.bytes_sent = bytes_sent_.load(std::memory_order_relaxed),
          .bytes_received = bytes_received_.load(std::memory_order_relaxed),
          .collectives = collectives_.load(std::memory_order_relaxed)};
}

}  // namespace penstock
