// The server around the jobs: health, reflection, metrics, limits, stopping.
#include "services/parameter/server.h"

#include <gtest/gtest.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>

#include "services/parameter/limits.h"
#include "services/parameter/test_job.h"
#include "services/rpc/address.h"

namespace penstock {
namespace {

std::string HttpGet(const std::string& address, const std::string& path) {
  const absl::StatusOr<HostPort> target = ParseHostPort(address);
  EXPECT_TRUE(target.ok());
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  EXPECT_EQ(getaddrinfo(target->host.c_str(), std::to_string(target->port).c_str(), &hints, &found), 0);
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(connect(fd, found->ai_addr, found->ai_addrlen), 0);
  freeaddrinfo(found);
  const std::string request = "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  EXPECT_EQ(send(fd, request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[4096];
  for (ssize_t n = 0; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;) answer.append(buffer, n);
  close(fd);
  return answer;
}

TEST(ServerTest, Metrics) {
  TestCluster cluster(TestSpec(), {.shards = 1, .metrics = true});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  for (uint64_t step = 1; step <= 2; ++step) ASSERT_EQ(cluster.Step(1, step), absl::OkStatus());
  ASSERT_TRUE(cluster.PullAll(1, 2).ok());
  EXPECT_FALSE(cluster.Push(0, 3).ok());
  const std::string text = HttpGet(cluster.servers[0]->metrics_address(), "/metrics");
  const std::string bytes = std::to_string(cluster.table.size() * 4);
  for (const std::string& line :
       {std::string("penstock_params_jobs 1"), std::string("penstock_params_committed_step{job=\"job-1\"} 2"),
        "penstock_params_pull_bytes_total " + bytes, "penstock_params_held_bytes{class=\"gradient\"} " + bytes,
        std::string("penstock_params_call_seconds_count{method=\"Commit\"} 2"),
        std::string("penstock_params_call_errors_total{code=\"FAILED_PRECONDITION\",method=\"Push\"} 1"),
        std::string("penstock_params_refused_total 1")}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << " isn't in:\n" << text;
  }
}

TEST(ServerTest, APortInUseIsSaid) {
  const absl::StatusOr<std::unique_ptr<ParameterServer>> first = ParameterServer::Start({});
  ASSERT_TRUE(first.ok()) << first.status();
  ParameterServer::Options options;
  options.address = (*first)->address();
  const absl::Status second = ParameterServer::Start(options).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_NE(second.message().find((*first)->address()), absl::string_view::npos) << second;
}

TEST(ServerTest, BadOptions) {
  ParameterServer::Options options;
  options.threads = 0;
  EXPECT_EQ(ParameterServer::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ServerTest, StopEndsCallsThatWait) {
  TestCluster cluster(TestSpec(), {.shards = 1});
  ASSERT_EQ(cluster.Open(1), absl::OkStatus());
  std::vector<float> weights(cluster.table.size());
  std::future<absl::Status> pull = std::async(std::launch::async, [&] {
    const std::vector<PullRange> ranges = {{cluster.table.range(), weights.data()}};
    return cluster.clients[0]->Pull(kTestJob, 1, 1, ranges, {absl::Seconds(60)});
  });
  std::future<absl::Status> prepare =
      std::async(std::launch::async, [&] { return cluster.Prepare(0, 1, 1, absl::Seconds(60)).status(); });
  cluster.servers[0].reset();
  EXPECT_FALSE(pull.get().ok());
  EXPECT_FALSE(prepare.get().ok());
}

TEST(ServerTest, JobsAreBounded) {
  TestCluster cluster(TinySpec(), {.shards = 1});
  for (int i = 0; i <= kJobsMax; ++i) {
    v1::OpenJobRequest request = cluster.OpenRequest(0, 1);
    request.set_job_id("job-" + std::to_string(i));
    const absl::Status status = cluster.clients[0]->OpenJob(request, {}).status();
    EXPECT_EQ(status.code(), i < kJobsMax ? absl::StatusCode::kOk : absl::StatusCode::kResourceExhausted) << status;
  }
}

}  // namespace
}  // namespace penstock
