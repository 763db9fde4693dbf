// A small HTTP/1.1 server for pages that a process makes of itself: GET and HEAD, one response for each connection.
//
// One thread serves up to kHttpConnectionsMax connections at once, without blocking on any of them: each has a
// deadline, and a request has a limit, so a slow or hostile client costs a slot for a moment and nothing else. Not for
// bulk data.
//
// Thread-safe. Handlers run on the server's thread; they must be quick and must not throw.
#ifndef PENSTOCK_SERVICES_TELEMETRY_HTTP_SERVER_H_
#define PENSTOCK_SERVICES_TELEMETRY_HTTP_SERVER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace penstock {

inline constexpr size_t kHttpConnectionsMax = 32;
inline constexpr size_t kHttpRequestBytesMax = 8 << 10;
// From accepting a connection to the last byte of its response.
inline constexpr absl::Duration kHttpConnectionTimeout = absl::Seconds(5);

struct HttpPage {
  std::string content_type;
  std::string body;
};

class HttpServer {
 public:
  struct Options {
    // "host:port"; port 0 takes any free one.
    std::string address = "127.0.0.1:0";
    // By path, without the query: "/metrics".
    std::map<std::string, std::function<HttpPage()>> pages;
    absl::Duration connection_timeout = kHttpConnectionTimeout;
  };

  // INVALID_ARGUMENT for an address that is none, ALREADY_EXISTS for one in use, UNAVAILABLE where this machine can't
  // listen there; each names the address.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(Options options);
  // Stops at once; connections are closed.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const { return port_; }
  const std::string& address() const { return address_; }

 private:
  class Loop;
  HttpServer(std::unique_ptr<Loop> loop, std::string address, int port, int stop_fd);

  const std::unique_ptr<Loop> loop_;
  const std::string address_;
  const int port_;
  const int stop_fd_;
  std::thread thread_;
};

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_TELEMETRY_HTTP_SERVER_H_
