#include "worker/comm/gloo/gloo_device.h"

#include <gloo/transport/tcp/attr.h>
#include <gloo/transport/tcp/device.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <exception>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace penstock {
namespace {

// Whether a socket can be bound to `host`. Gloo finds out too, but leaks the addresses and names its own source.
absl::Status CheckLocalHost(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  std::string problem;
  if (const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0) {
    problem = gai_strerror(error);
  }
  bool bound = false;
  for (const addrinfo* entry = found; entry != nullptr && !bound; entry = entry->ai_next) {
    const int fd = socket(entry->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bound = fd >= 0 && bind(fd, entry->ai_addr, entry->ai_addrlen) == 0;
    if (!bound) problem = std::system_category().message(errno);
    if (fd >= 0) close(fd);
  }
  if (found != nullptr) freeaddrinfo(found);
  if (bound) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("can't listen on ", host, " for other workers: ", problem,
                                                 "; it must be a name or address of this machine"));
}

}  // namespace

absl::StatusOr<std::shared_ptr<GlooDevice>> GlooDevice::Create(const std::string& host) {
  PENSTOCK_RETURN_IF_ERROR(CheckLocalHost(host));
  // Gloo writes to sockets that a peer may have closed, and doesn't ask for an error in place of the signal.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    gloo::transport::tcp::attr attr;
    attr.hostname = host;
    return std::shared_ptr<GlooDevice>(new GlooDevice(gloo::transport::tcp::CreateDevice(attr)));
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat("can't listen on ", host, " for other workers: ", error.what()));
  }
}

}  // namespace penstock
