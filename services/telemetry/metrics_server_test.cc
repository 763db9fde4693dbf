#include "services/telemetry/metrics_server.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class Client {
 public:
  explicit Client(int port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval patience = {.tv_sec = 20, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  ~Client() { close(fd_); }

  void Send(const std::string& bytes) {
    EXPECT_EQ(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  // Until the server closes.
  std::string ReadAll() {
    std::string all;
    char bytes[4096];
    for (ssize_t count; (count = recv(fd_, bytes, sizeof(bytes), 0)) > 0;)
      all.append(bytes, static_cast<size_t>(count));
    return all;
  }
  std::string Ask(const std::string& request) {
    Send(request);
    return ReadAll();
  }

 private:
  const int fd_;
};

class MetricsServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto server = MetricsServer::Start("127.0.0.1:0", metrics_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::string Ask(const std::string& request) { return Client(server_->port()).Ask(request); }

  Metrics metrics_{"worker"};
  std::unique_ptr<MetricsServer> server_;
};

TEST_F(MetricsServerTest, ServesMetrics) {
  metrics_.AddCounter("penstock_tokens_total", "Tokens.").Default().Increment(5);
  const std::string response = Ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(response, StartsWith("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"));
  EXPECT_THAT(response, HasSubstr("\npenstock_tokens_total 5\n"));
  const size_t header_end = response.find("\r\n\r\n") + 4;
  EXPECT_THAT(response, HasSubstr(absl::StrCat("Content-Length: ", response.size() - header_end, "\r\n")));
  EXPECT_EQ(server_->address(), absl::StrCat("127.0.0.1:", server_->port()));
}

TEST_F(MetricsServerTest, AnswersInPiecesQueriesAndHead) {
  Client client(server_->port());
  client.Send("GET /metr");
  client.Send("ics?name=x HTTP/1.1\r\n\r");
  EXPECT_THAT(client.Ask("\n"), StartsWith("HTTP/1.1 200 OK"));
  const std::string head = Ask("HEAD /metrics HTTP/1.0\r\n\r\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200 OK"));
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
}

TEST_F(MetricsServerTest, RefusesWhatIsWrong) {
  EXPECT_THAT(Ask("GET /nothing HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Ask("POST /metrics HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(Ask("GET\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(Ask("GET /metrics SPDY/3\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(Ask("\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(Ask(std::string("\0\xff \x01 /\r\n\r\n", 10)), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(Ask(std::string(kHttpRequestBytesMax + 1, 'x')), StartsWith("HTTP/1.1 431"));
}

TEST_F(MetricsServerTest, SilentConnectionsHoldUpNobody) {
  std::vector<std::unique_ptr<Client>> silent;
  for (size_t i = 0; i + 1 < kHttpConnectionsMax; ++i) silent.push_back(std::make_unique<Client>(server_->port()));
  EXPECT_THAT(Ask("GET /metrics HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 200"));
}

TEST_F(MetricsServerTest, StopsAtOnceAndFreesThePort) {
  Client silent(server_->port());
  const std::string address = server_->address();
  const absl::Time start = absl::Now();
  server_.reset();
  EXPECT_LT(absl::Now() - start, absl::Seconds(2));
  EXPECT_EQ(silent.ReadAll(), "");
  EXPECT_TRUE(MetricsServer::Start(address, metrics_).ok());
}

TEST_F(MetricsServerTest, APortInUseIsNamed) {
  const auto second = MetricsServer::Start(server_->address(), metrics_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(server_->address()));
  EXPECT_EQ(MetricsServer::Start("nowhere", metrics_).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(HttpServerTest, AConnectionHasADeadline) {
  HttpServer::Options options;
  options.connection_timeout = absl::Milliseconds(20);
  auto server = HttpServer::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  Client slow((*server)->port());
  slow.Send("GET /");
  EXPECT_EQ(slow.ReadAll(), "");
}

TEST(HttpServerTest, SendsMoreThanASocketTakes) {
  HttpServer::Options options;
  options.pages["/big"] = [] { return HttpPage{.content_type = "text/plain", .body = std::string(20 << 20, 'x')}; };
  auto server = HttpServer::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string response = Client((*server)->port()).Ask("GET /big HTTP/1.1\r\n\r\n");
  EXPECT_EQ(response.size() - response.find("\r\n\r\n") - 4, size_t{20} << 20);
}

}  // namespace
}  // namespace penstock
