// What people watch: /metrics of every process (checked by promtool where it is installed), health, and JSON for
// programs.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <set>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/test_cluster.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// The body of an HTTP GET.
std::string HttpGet(const std::string& address, const std::string& path) {
  const size_t colon = address.rfind(':');
  int port = 0;
  if (!absl::SimpleAtoi(address.substr(colon + 1), &port)) return "";
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in peer{};
  peer.sin_family = AF_INET;
  peer.sin_port = htons(port);
  inet_pton(AF_INET, address.substr(0, colon).c_str(), &peer.sin_addr);
  std::string answer;
  const std::string request = absl::StrCat("GET ", path, " HTTP/1.0\r\nHost: ", address, "\r\n\r\n");
  if (connect(fd, reinterpret_cast<sockaddr*>(&peer), sizeof(peer)) == 0 &&
      write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
    char buffer[4096];
    for (ssize_t got; (got = read(fd, buffer, sizeof(buffer))) > 0;) answer.append(buffer, got);
  }
  close(fd);
  const size_t body = answer.find("\r\n\r\n");
  return body == std::string::npos ? "" : answer.substr(body + 4);
}

class ObservabilityTest : public SharedClusterTest {
 protected:
  static void SetUpTestSuite() {
    ASSERT_NO_FATAL_FAILURE(StartCluster({.workers = 2, .params = 2}));
    TinyJob job;
    job.name = "seen";
    job.pipeline = 2;
    job.training_more = ", validate_every_steps: 10, validation_samples: 8";
    job.checkpoint = "{directory: checkpoints, every_steps: 10}";
    status_ = new Json(cluster_->RunJob("seen", job.Text()));
  }
  static void TearDownTestSuite() {
    SharedClusterTest::TearDownTestSuite();
    delete status_;
  }

  static Json* status_;
};

Json* ObservabilityTest::status_ = nullptr;

TEST_F(ObservabilityTest, EveryProcessHasMetrics) {
  const Json metrics = cluster_->ClusterFile()["metrics"];
  ASSERT_EQ(metrics.size(), 5u);
  std::string all;
  for (const Json& address : metrics) {
    const std::string text = HttpGet(address, "/metrics");
    EXPECT_THAT(text, HasSubstr("penstock_build_info")) << address;
    const std::string file = cluster_->WriteFile("metrics.txt", text);
    const CommandResult promtool =
        RunCommand({"/bin/sh", "-c", absl::StrCat("promtool check metrics < ", file)}, absl::Seconds(20));
    EXPECT_EQ(promtool.exit_code, 0) << address << ": " << promtool.output << promtool.errors << text;
    all += text;
  }
  for (const char* name :
       {"penstock_job_last_step_timestamp_seconds", "penstock_job_steps", "penstock_worker_", "penstock_params_"}) {
    EXPECT_THAT(all, HasSubstr(name));
  }
  EXPECT_THAT(all, Not(HasSubstr("nan")));
}

TEST_F(ObservabilityTest, JobShowHasEveryFieldThatProgramsRead) {
  for (const char* field : {"name", "state", "step", "steps", "loss", "validation_loss", "tokens_per_second",
                            "step_seconds", "epoch", "recoveries", "samples_consumed", "samples_repeated",
                            "samples_skipped", "mesh", "digest", "digest_step", "message"}) {
    EXPECT_TRUE(status_->contains(field)) << field;
  }
  EXPECT_EQ((*status_)["state"], "SUCCEEDED");
  EXPECT_EQ((*status_)["step"], 20);
  EXPECT_TRUE((*status_)["validation_loss"].is_number());
  EXPECT_GT((*status_)["tokens_per_second"], 0);
  EXPECT_EQ((*status_)["mesh"]["pipeline"], 2);
}

TEST_F(ObservabilityTest, HistoryHasEveryStepOnce) {
  const Json history = cluster_->CtlJson({"job", "history", "seen"});
  ASSERT_EQ(history.size(), 20u);
  for (size_t i = 0; i < history.size(); ++i) {
    EXPECT_EQ(history[i]["step"], i + 1);
    EXPECT_TRUE(history[i]["loss"].is_number());
    EXPECT_GT(history[i]["gradient_norm"], 0);
    EXPECT_GT(history[i]["learning_rate"], 0);
    EXPECT_EQ(history[i]["tokens"], 8 * 16);
    EXPECT_EQ(history[i]["validation_loss"].is_number(), i + 1 == 10 || i + 1 == 20) << i;
  }
}

TEST_F(ObservabilityTest, WorkersEventsCheckpointsAndPlot) {
  std::set<std::string> ids;
  for (const Json& worker : cluster_->CtlJson({"worker", "list"})) {
    ids.insert(worker["id"]);
    EXPECT_EQ(worker["state"], "IDLE");
    EXPECT_TRUE(worker["stage"].is_null());
    EXPECT_LT(worker["heartbeat_age_seconds"], 2);
  }
  EXPECT_EQ(ids, (std::set<std::string>{"worker-0", "worker-1"}));
  EXPECT_FALSE(cluster_->CtlJson({"job", "events", "seen"}).empty());
  const Json checkpoints = cluster_->CtlJson({"checkpoint", "list", "seen"});
  ASSERT_EQ(checkpoints.size(), 2u);
  EXPECT_EQ(checkpoints[0]["step"], 20);
  EXPECT_EQ(checkpoints[0]["digest"], (*status_)["digest"]);
  const CommandResult plot = cluster_->Ctl({"job", "plot", "seen", "--file", "-"});
  EXPECT_EQ(plot.exit_code, 0);
  EXPECT_THAT(plot.output, HasSubstr("<svg"));
}

}  // namespace
}  // namespace penstock
