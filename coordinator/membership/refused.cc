#include "coordinator/membership/refused.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "services/rpc/address.h"

namespace penstock {
namespace {

bool Refuses(const addrinfo& candidate, absl::Duration limit) {
  const int fd =
      socket(candidate.ai_family, candidate.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, candidate.ai_protocol);
  if (fd < 0) return false;
  int error = connect(fd, candidate.ai_addr, candidate.ai_addrlen) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    pollfd wait = {fd, POLLOUT, 0};
    socklen_t size = sizeof(error);
    if (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(limit))) != 1 ||
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
      error = ETIMEDOUT;
    }
  }
  close(fd);
  return error == ECONNREFUSED;
}

}  // namespace

bool ConnectionRefused(const std::string& address, absl::Duration limit) {
  const auto parsed = ParseHostPort(address);
  if (!parsed.ok()) return false;
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (getaddrinfo(parsed->host.c_str(), std::to_string(parsed->port).c_str(), &hints, &found) != 0) return false;
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> candidates(found, freeaddrinfo);
  for (const addrinfo* candidate = candidates.get(); candidate != nullptr; candidate = candidate->ai_next) {
    if (!Refuses(*candidate, limit)) return false;
  }
  return true;
}

}  // namespace penstock
