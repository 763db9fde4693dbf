#include "services/rpc/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

constexpr int kBacklog = 64;

absl::Status ListenError(int error, const HostPort& address) {
  if (error == EADDRINUSE) {
    return absl::AlreadyExistsError(absl::StrCat("can't listen at ", address.ToString(),
                                                 ": the port is in use; choose another, or 0 for any free one"));
  }
  return absl::UnavailableError(absl::StrCat("can't listen at ", address.ToString(), ": ", std::strerror(error)));
}

// The socket, or -1 with errno.
int ListenAt(const addrinfo& candidate) {
  const int fd =
      socket(candidate.ai_family, candidate.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, candidate.ai_protocol);
  if (fd < 0) return -1;
  // Connections of an earlier run that linger in TIME_WAIT don't block the port; a process that listens still does.
  const int on = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
      bind(fd, candidate.ai_addr, candidate.ai_addrlen) == 0 && listen(fd, kBacklog) == 0) {
    return fd;
  }
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

}  // namespace

absl::StatusOr<int> OpenListener(const HostPort& address) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (failed != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("can't listen at ", address.ToString(), ": no address for the host: ", gai_strerror(failed)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> candidates(found, freeaddrinfo);
  int error = EADDRNOTAVAIL;
  for (const addrinfo* candidate = candidates.get(); candidate != nullptr; candidate = candidate->ai_next) {
    const int fd = ListenAt(*candidate);
    if (fd >= 0) return fd;
    error = errno;
  }
  return ListenError(error, address);
}

absl::StatusOr<int> BoundPort(int socket) {
  sockaddr_storage bound = {};
  socklen_t size = sizeof(bound);
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
    return absl::ErrnoToStatus(errno, "getsockname");
  }
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&bound)->sin6_port
                                           : reinterpret_cast<const sockaddr_in*>(&bound)->sin_port);
}

}  // namespace penstock
