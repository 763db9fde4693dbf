#include "worker/runtime/message_lane.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/schedule/message_buffers.h"

namespace penstock {
void RecvLane::Bind(Communicator* comm, int peer, std::vector<std::span<std::byte>> buffers) {
  comm_ = comm;
  peer_ = peer;
  for (const std::span<std::byte> memory : buffers)
    buffers_.push_back({.memory = memory, .micro_batch = -1, .transfer = {}});
}

absl::Status RecvLane::Begin(const std::vector<Instruction>& list) {
  order_.clear();
  posted_ = 0;
  for (const Instruction& instruction : list) {
    if (instruction.op == recv_) order_.push_back(instruction.micro_batch);
  }
  return PostAhead();
}

absl::Status RecvLane::PostAhead() {
  for (Buffer& buffer : buffers_) {
    if (posted_ == order_.size()) break;
    if (buffer.micro_batch >= 0) continue;
    const int micro_batch = order_[posted_];
    PENSTOCK_ASSIGN_OR_RETURN(buffer.transfer,
                              comm_->StartRecv(peer_, first_tag_ + static_cast<Tag>(micro_batch),
                                               absl::MakeSpan(buffer.memory.data(), buffer.memory.size())));
    buffer.micro_batch = micro_batch;
    ++posted_;
  }
  return absl::OkStatus();
}

const RecvLane::Buffer* RecvLane::Find(int micro_batch) const {
  for (const Buffer& buffer : buffers_) {
    if (buffer.micro_batch == micro_batch) return &buffer;
  }
  return nullptr;
}

absl::Status RecvLane::Receive(int micro_batch) {
  const Buffer* buffer = Find(micro_batch);
  // The buffers suffice for the list's order, so the receive has been posted.
  PENSTOCK_CHECK(buffer != nullptr && buffer->transfer != nullptr);
  return buffer->transfer->Wait();
}

std::span<std::byte> RecvLane::Message(int micro_batch) const {
  const Buffer* buffer = Find(micro_batch);
  PENSTOCK_CHECK(buffer != nullptr);
  return buffer->memory;
}

absl::Status RecvLane::Release(int micro_batch) {
  Buffer* buffer = const_cast<Buffer*>(Find(micro_batch));
  PENSTOCK_CHECK(buffer != nullptr);
  buffer->micro_batch = -1;
  buffer->transfer.reset();
  return PostAhead();
}

void SendLane::Bind(Communicator* comm, int peer, std::vector<std::span<std::byte>> buffers) {
  comm_ = comm;
  peer_ = peer;
  for (const std::span<std::byte> memory : buffers) {
    buffers_.push_back({.memory = memory, .micro_batch = -1, .turn = 0, .transfer = {}});
  }
}

absl::StatusOr<std::span<std::byte>> SendLane::Acquire(int micro_batch) {
  Buffer* chosen = nullptr;
  for (Buffer& buffer : buffers_) {
    if (buffer.micro_batch < 0) {
      chosen = &buffer;
      break;
    }
    if (buffer.transfer != nullptr && (chosen == nullptr || buffer.turn < chosen->turn)) chosen = &buffer;
  }
  PENSTOCK_CHECK(chosen != nullptr);
  if (chosen->transfer != nullptr) PENSTOCK_RETURN_IF_ERROR(std::exchange(chosen->transfer, nullptr)->Wait());
  chosen->micro_batch = micro_batch;
  chosen->turn = turns_++;
  return chosen->memory;
}

absl::Status SendLane::Send(int micro_batch) {
  for (Buffer& buffer : buffers_) {
    if (buffer.micro_batch != micro_batch || buffer.transfer != nullptr) continue;
    PENSTOCK_ASSIGN_OR_RETURN(buffer.transfer,
                              comm_->StartSend(peer_, first_tag_ + static_cast<Tag>(micro_batch),
                                               absl::MakeConstSpan(buffer.memory.data(), buffer.memory.size())));
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat(OpName(send_), " mb ", micro_batch, ": nothing was computed to send"));
}

absl::Status SendLane::Flush() {
  for (Buffer& buffer : buffers_) {
    if (buffer.transfer != nullptr) PENSTOCK_RETURN_IF_ERROR(std::exchange(buffer.transfer, nullptr)->Wait());
    buffer.micro_batch = -1;
  }
  return absl::OkStatus();
}

}  // namespace penstock
