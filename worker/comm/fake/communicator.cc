#include "worker/comm/fake/communicator.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {

class FakeTransfer : public Transfer {
 public:
  FakeTransfer(std::shared_ptr<FakeNetwork> network, std::shared_ptr<FakeNetwork::Message> message, int self,
               absl::Duration timeout)
      : network_(std::move(network)), message_(std::move(message)), self_(self), timeout_(timeout) {}

  absl::Status Wait() override { return network_->Wait(*message_, self_, timeout_); }

 private:
  const std::shared_ptr<FakeNetwork> network_;
  const std::shared_ptr<FakeNetwork::Message> message_;
  const int self_;
  const absl::Duration timeout_;
};

class FakeCommunicator : public Communicator {
 public:
  FakeCommunicator(std::shared_ptr<FakeNetwork> network, int rank, FakeNetwork::Options options)
      : network_(std::move(network)), rank_(rank), options_(options) {}
  ~FakeCommunicator() override { network_->Kill(rank_); }

  int rank() const override { return rank_; }
  int size() const override { return network_->size(); }

  absl::StatusOr<std::shared_ptr<Transfer>> StartSend(int peer, Tag tag, absl::Span<const std::byte> data) override {
    PENSTOCK_RETURN_IF_ERROR(CheckMessage(peer, tag, data.size()));
    CountSent(data.size());
    return Start(tag, std::make_shared<FakeNetwork::Message>(
                          FakeNetwork::Message{.from = rank_, .to = peer, .send = true, .source = data}));
  }

  absl::StatusOr<std::shared_ptr<Transfer>> StartRecv(int peer, Tag tag, absl::Span<std::byte> data) override {
    PENSTOCK_RETURN_IF_ERROR(CheckMessage(peer, tag, data.size()));
    CountReceived(data.size());
    return Start(tag, std::make_shared<FakeNetwork::Message>(
                          FakeNetwork::Message{.from = peer, .to = rank_, .send = false, .target = data}));
  }

  void Abort(absl::Status reason) override { network_->Abort(rank_, std::move(reason)); }

 private:
  std::shared_ptr<Transfer> Start(Tag tag, const std::shared_ptr<FakeNetwork::Message>& message) {
    network_->Post(tag, message);
    return std::make_shared<FakeTransfer>(network_, message, rank_, options_.wait_timeout);
  }

  const std::shared_ptr<FakeNetwork> network_;
  const int rank_;
  const FakeNetwork::Options options_;
};

FakeNetwork::FakeNetwork(int size) : size_(size), closed_(size, false), aborted_(size) {}

std::unique_ptr<Communicator> FakeNetwork::Join(int rank, Options options) {
  return std::make_unique<FakeCommunicator>(shared_from_this(), rank, options);
}

void FakeNetwork::Post(Tag tag, const std::shared_ptr<Message>& message) {
  std::lock_guard<std::mutex> lock(mutex_);
  const int peer = message->send ? message->to : message->from;
  if (closed_[peer]) {
    message->done = true;
    message->status = WithPeer(absl::UnavailableError(absl::StrCat("rank ", peer, " closed the connection")), peer);
    return;
  }
  Lane& lane = lanes_[{message->from, message->to, tag}];
  (message->send ? lane.sends : lane.receives).push_back(message);
  Match(lane);
  changed_.notify_all();
}

void FakeNetwork::Match(Lane& lane) {
  while (!lane.sends.empty() && !lane.receives.empty()) {
    Message& send = *lane.sends.front();
    Message& receive = *lane.receives.front();
    if (send.source.size() != receive.target.size()) {
      receive.status =
          WithPeer(absl::InternalError(absl::StrCat("rank ", send.from, " sent a message of ", send.source.size(),
                                                    " bytes where ", receive.target.size(), " were expected")),
                   send.from);
    } else {
      std::memcpy(receive.target.data(), send.source.data(), send.source.size());
    }
    send.done = receive.done = true;
    lane.sends.pop_front();
    lane.receives.pop_front();
  }
}

absl::Status FakeNetwork::Wait(const Message& message, int self, absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mutex_);
  const bool done =
      changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout), [&] { return message.done || !aborted_[self].ok(); });
  if (!aborted_[self].ok()) return aborted_[self];
  const int peer = message.send ? message.to : message.from;
  absl::Status status = message.status;
  if (!done) {
    status = WithPeer(absl::DeadlineExceededError(absl::StrCat("no ", message.send ? "receive" : "message",
                                                               " from rank ", peer, " within the time limit")),
                      peer);
  }
  // The first error ends the communicator.
  if (!status.ok()) aborted_[self] = status;
  return status;
}

void FakeNetwork::Abort(int rank, absl::Status reason) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (aborted_[rank].ok()) aborted_[rank] = std::move(reason);
  changed_.notify_all();
}

void FakeNetwork::Kill(int rank) {
  std::lock_guard<std::mutex> lock(mutex_);
  CloseLocked(rank);
  changed_.notify_all();
}

void FakeNetwork::CloseLocked(int rank) {
  closed_[rank] = true;
  for (auto& [key, lane] : lanes_) {
    const auto [from, to, tag] = key;
    // The latest message that can come: memory that the rank freed before its communicator shows here.
    if (to == rank) {
      for (const std::shared_ptr<Message>& message : lane.receives) {
        std::memset(message->target.data(), 0xdb, message->target.size());
      }
    }
  }
  for (auto& [key, lane] : lanes_) {
    const auto [from, to, tag] = key;
    if (from != rank && to != rank) continue;
    for (Queue* queue : {&lane.sends, &lane.receives}) {
      for (const std::shared_ptr<Message>& message : *queue) {
        message->done = true;
        message->status = WithPeer(absl::UnavailableError(absl::StrCat("rank ", rank, " closed the connection")), rank);
      }
      queue->clear();
    }
  }
}

namespace {

class FakeConnector : public Connector {
 public:
  FakeConnector(std::shared_ptr<FakeNetwork> network, int rank, FakeNetwork::Options options)
      : comm_(network->Join(rank, options)) {}

  absl::StatusOr<std::unique_ptr<Communicator>> Connect() override {
    std::vector<int> everybody;
    for (int i = 0; i < comm_->size(); ++i) everybody.push_back(i);
    PENSTOCK_RETURN_IF_ERROR(comm_->Barrier(everybody));
    std::lock_guard<std::mutex> lock(mutex_);
    return std::move(comm_);
  }

  void Abort(absl::Status reason) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (comm_ != nullptr) comm_->Abort(std::move(reason));
  }

 private:
  std::mutex mutex_;
  std::unique_ptr<Communicator> comm_;
};

}  // namespace

std::unique_ptr<Connector> MakeFakeConnector(std::shared_ptr<FakeNetwork> network, int rank,
                                             FakeNetwork::Options options) {
  return std::make_unique<FakeConnector>(std::move(network), rank, options);
}

}  // namespace penstock
