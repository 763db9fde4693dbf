#include "worker/comm/nccl/testing/emulated_wire.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <utility>

namespace penstock::nccl_emulator {
namespace {

// Until all ranks of a communicator are there.
constexpr int kAcceptTimeoutMs = 120'000;

bool SendAll(int socket, const void* data, size_t bytes) {
  const auto* at = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    const ssize_t sent = send(socket, at, bytes, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    at += sent;
    bytes -= static_cast<size_t>(sent);
  }
  return true;
}

bool ReceiveAll(int socket, void* data, size_t bytes) {
  auto* at = static_cast<std::byte*>(data);
  while (bytes > 0) {
    const ssize_t received = recv(socket, at, bytes, 0);
    if (received <= 0) return false;
    at += received;
    bytes -= static_cast<size_t>(received);
  }
  return true;
}

bool SendFrame(int socket, const FrameHeader& header, const std::byte* body) {
  return SendAll(socket, &header, sizeof(header)) && SendAll(socket, body, header.body_bytes);
}

bool ReceiveFrame(int socket, Frame* frame) {
  if (!ReceiveAll(socket, &frame->header, sizeof(frame->header))) return false;
  frame->body.resize(frame->header.body_bytes);
  return ReceiveAll(socket, frame->body.data(), frame->body.size());
}

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

// Shared by a switch's threads; the last one that ends frees it.
class Switch {
 public:
  // True when the last rank has come.
  void Add(int rank, int size, int socket) {
    std::map<int, int> all;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      sockets_[rank] = socket;
      if (static_cast<int>(sockets_.size()) < size) return;
      all = sockets_;
    }
    for (const auto& [to, unused] : all) Forward({{.kind = FrameKind::kStart, .from = -1, .to = to}, {}});
  }

  void Forward(const Frame& frame) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = sockets_.find(frame.header.to);
    if (found != sockets_.end()) SendFrame(found->second, frame.header, frame.body.data());
  }

  void Remove(int rank) {
    std::map<int, int> left;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      sockets_.erase(rank);
      left = sockets_;
    }
    for (const auto& [to, unused] : left) Forward({{.kind = FrameKind::kGone, .from = rank, .to = to}, {}});
  }

 private:
  std::mutex mutex_;
  std::map<int, int> sockets_;  // guarded by mutex_, as what is written to them
};

void Serve(const std::shared_ptr<Switch>& ranks, int socket) {
  Frame frame;
  if (ReceiveFrame(socket, &frame)) {
    const int rank = frame.header.from;
    ranks->Add(rank, static_cast<int>(frame.header.number), socket);
    while (ReceiveFrame(socket, &frame)) ranks->Forward(frame);
    ranks->Remove(rank);
  }
  close(socket);
}

void Accept(int listener) {
  const auto ranks = std::make_shared<Switch>();
  int expected = -1;
  for (int i = 0; expected < 0 || i < expected; ++i) {
    pollfd ready = {listener, POLLIN, 0};
    if (poll(&ready, 1, kAcceptTimeoutMs) <= 0) break;
    const int socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) break;
    const int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (expected < 0) {
      // The first one says how many there will be, before its thread reads it.
      FrameHeader hello;
      if (recv(socket, &hello, sizeof(hello), MSG_PEEK | MSG_WAITALL) != sizeof(hello)) {
        close(socket);
        break;
      }
      expected = static_cast<int>(hello.number);
    }
    std::thread([ranks, socket] { Serve(ranks, socket); }).detach();
  }
  close(listener);
}

}  // namespace

uint16_t StartSwitch() {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0) return 0;
  sockaddr_in address = Loopback(0);
  socklen_t length = sizeof(address);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(listener, 64) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    close(listener);
    return 0;
  }
  std::thread([listener] { Accept(listener); }).detach();
  return ntohs(address.sin_port);
}

Wire::Wire(uint16_t port, int rank, int size, std::function<void(Frame)> on_frame) : rank_(rank) {
  socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Loopback(port);
  const bool connected = connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  const int on = 1;
  setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (connected) Send({.kind = FrameKind::kHello, .number = static_cast<uint64_t>(size)}, nullptr);
  reader_ = std::thread([this, connected, on_frame = std::move(on_frame)] {
    Frame frame;
    while (connected && ReceiveFrame(socket_, &frame)) on_frame(std::move(frame));
    on_frame({{.kind = FrameKind::kGone, .from = -1}, {}});
  });
}

Wire::~Wire() {
  shutdown(socket_, SHUT_RDWR);
  reader_.join();
  close(socket_);
}

void Wire::Send(FrameHeader header, const std::byte* body) {
  header.from = rank_;
  const std::lock_guard<std::mutex> lock(mutex_);
  SendFrame(socket_, header, body);
}

}  // namespace penstock::nccl_emulator
