#include "services/telemetry/http_server.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "services/rpc/address.h"
#include "services/rpc/listener.h"

namespace penstock {
namespace {

constexpr size_t kReadBytes = 4096;
constexpr absl::Duration kPollTimeout = absl::Seconds(1);

struct Connection {
  int fd = -1;
  absl::Time deadline;
  std::string request;
  std::string response;
  size_t sent = 0;
};

std::string Response(std::string_view status, const HttpPage& page, bool with_body) {
  const absl::string_view body(page.body.data(), with_body ? page.body.size() : 0);
  return absl::StrCat("HTTP/1.1 ", absl::string_view(status.data(), status.size()),
                      "\r\nContent-Type: ", page.content_type, "\r\nContent-Length: ", page.body.size(),
                      "\r\nConnection: close\r\n\r\n", body);
}

std::string ErrorResponse(std::string_view status) {
  return Response(status, HttpPage{.content_type = "text/plain; charset=utf-8", .body = std::string(status) + "\n"},
                  true);
}

// The response to a request whose header is whole.
std::string Answer(std::string_view request, const std::map<std::string, std::function<HttpPage()>>& pages) {
  const std::string_view line = request.substr(0, request.find_first_of("\r\n"));
  const size_t method_end = line.find(' ');
  const size_t target_end = line.rfind(' ');
  if (method_end == std::string_view::npos || target_end <= method_end ||
      !line.substr(target_end + 1).starts_with("HTTP/1.")) {
    return ErrorResponse("400 Bad Request");
  }
  const std::string_view method = line.substr(0, method_end);
  if (method != "GET" && method != "HEAD") return ErrorResponse("405 Method Not Allowed");
  std::string_view path = line.substr(method_end + 1, target_end - method_end - 1);
  path = path.substr(0, path.find('?'));
  const auto page = pages.find(std::string(path));
  if (page == pages.end()) return ErrorResponse("404 Not Found");
  return Response("200 OK", page->second(), method == "GET");
}

// Whether a read or write that failed is worth another try later.
bool IsTransient(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

// What the server's thread owns.
class HttpServer::Loop {
 public:
  Loop(Options options, int listener, int stop_fd)
      : options_(std::move(options)), listener_(listener), stop_fd_(stop_fd) {}

  ~Loop() {
    for (const Connection& connection : connections_) close(connection.fd);
    close(listener_);
  }

  void Run() {
    while (true) {
      std::vector<pollfd> waiting;
      waiting.push_back({.fd = stop_fd_, .events = POLLIN, .revents = 0});
      // A full house lets the next one wait in the kernel's queue.
      const bool room = connections_.size() < kHttpConnectionsMax;
      waiting.push_back({.fd = room ? listener_ : -1, .events = POLLIN, .revents = 0});
      for (const Connection& connection : connections_) {
        const short events = connection.response.empty() ? POLLIN : POLLOUT;
        waiting.push_back({.fd = connection.fd, .events = events, .revents = 0});
      }
      const int ready = poll(waiting.data(), waiting.size(), PollMilliseconds());
      if (ready < 0 && errno != EINTR) return;
      if (waiting[0].revents != 0) return;
      // From the last on, so that ending one doesn't move those to come.
      for (size_t i = connections_.size(); i-- > 0;) {
        const bool is_ready = ready > 0 && waiting[2 + i].revents != 0;
        if ((is_ready && !Advance(connections_[i])) || connections_[i].deadline <= absl::Now()) End(i);
      }
      if (ready > 0 && waiting[1].revents != 0) Accept();
    }
  }

 private:
  int PollMilliseconds() const {
    if (connections_.empty()) return -1;
    return static_cast<int>(absl::ToInt64Milliseconds(std::min(options_.connection_timeout, kPollTimeout))) / 2 + 1;
  }

  void Accept() {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      Connection& connection = connections_.emplace_back();
      connection.fd = fd;
      connection.deadline = absl::Now() + options_.connection_timeout;
    } else if (!IsTransient(errno)) {
      // Out of descriptors, usually: the listener stays ready, so a pause keeps this from spinning.
      absl::SleepFor(absl::Milliseconds(10));
    }
  }

  void End(size_t index) {
    close(connections_[index].fd);
    connections_.erase(connections_.begin() + static_cast<ptrdiff_t>(index));
  }

  // Reads or writes as far as it goes. False when the connection is over.
  bool Advance(Connection& connection) {
    if (connection.response.empty() && !Read(connection)) return false;
    return connection.response.empty() || Write(connection);
  }

  bool Read(Connection& connection) {
    char bytes[kReadBytes];
    const ssize_t count = recv(connection.fd, bytes, sizeof(bytes), 0);
    if (count < 0) return IsTransient(errno);
    if (count == 0) return false;
    connection.request.append(bytes, static_cast<size_t>(count));
    const size_t end = connection.request.find("\r\n\r\n");
    if (end != std::string::npos && end <= kHttpRequestBytesMax) {
      connection.response = Answer(std::string_view(connection.request).substr(0, end), options_.pages);
    } else if (connection.request.size() > kHttpRequestBytesMax) {
      connection.response = ErrorResponse("431 Request Header Fields Too Large");
    }
    return true;
  }

  // False when all is sent, or nobody takes it.
  bool Write(Connection& connection) {
    const std::string_view left = std::string_view(connection.response).substr(connection.sent);
    const ssize_t count = send(connection.fd, left.data(), left.size(), MSG_NOSIGNAL);
    if (count < 0) return IsTransient(errno);
    connection.sent += static_cast<size_t>(count);
    if (connection.sent < connection.response.size()) return true;
    shutdown(connection.fd, SHUT_WR);
    return false;
  }

  const Options options_;
  const int listener_;
  const int stop_fd_;
  std::vector<Connection> connections_;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(Options options) {
  PENSTOCK_ASSIGN_OR_RETURN(HostPort address, ParseHostPort(options.address));
  const int stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_fd < 0) return absl::ErrnoToStatus(errno, "eventfd");
  auto listener = OpenListener(address);
  if (!listener.ok()) {
    close(stop_fd);
    return listener.status();
  }
  auto loop = std::make_unique<Loop>(std::move(options), *listener, stop_fd);
  auto port = BoundPort(*listener);
  if (!port.ok()) {
    close(stop_fd);
    return port.status();
  }
  address.port = *port;
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(loop), address.ToString(), *port, stop_fd));
}

HttpServer::HttpServer(std::unique_ptr<Loop> loop, std::string address, int port, int stop_fd)
    : loop_(std::move(loop)),
      address_(std::move(address)),
      port_(port),
      stop_fd_(stop_fd),
      thread_([loop = loop_.get()] { loop->Run(); }) {}

HttpServer::~HttpServer() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(stop_fd_, &one, sizeof(one));
  thread_.join();
  close(stop_fd_);
}

}  // namespace penstock
