// Real clusters whose workers have GPUs, by the emulator (worker/testing): the worker's code down to CUDA's, cuBLASLt's
// and NCCL's functions is what runs on a card.
#include <signal.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/cluster/test_cluster.h"

namespace penstock {
namespace {

// The cluster's binaries in one folder, with the emulated worker as the worker.
std::string BinaryFolder() {
  const std::string folder = absl::StrCat(testing::TempDir(), "/emulated-binaries");
  std::filesystem::create_directories(folder);
  for (const char* binary :
       {"coordinator/penstock-coordinator", "services/client/penstockctl", "services/parameter/penstock-params"}) {
    const std::filesystem::path path = RunfilePath(binary);
    const std::filesystem::path link = folder / path.filename();
    if (!std::filesystem::exists(link)) std::filesystem::create_symlink(path, link);
  }
  const std::filesystem::path worker = absl::StrCat(folder, "/penstock-worker");
  if (!std::filesystem::exists(worker)) {
    std::filesystem::create_symlink(RunfilePath("worker/testing/penstock-worker-emulated"), worker);
  }
  return folder;
}

TestCluster::Options GpuCluster(const std::string& links) {
  // One more than the jobs need.
  return {.workers = 5,
          .more_arguments = {absl::StrCat("--bindir=", BinaryFolder()), "--device=cuda:0,cuda:1,cuda:2,cuda:3,cuda:4",
                             absl::StrCat("--device_links=", links)}};
}

TinyJob Job(const std::string& name) {
  TinyJob job;
  job.name = name;
  job.data = 2;
  job.pipeline = 2;
  job.steps = 8;
  return job;
}

std::vector<double> Losses(const TestCluster& cluster, const std::string& name) {
  std::vector<double> losses;
  for (const Json& step : cluster.CtlJson({"job", "history", name})) losses.push_back(step["loss"]);
  return losses;
}

void ExpectNear(const std::vector<double>& losses, const std::vector<double>& expected) {
  ASSERT_EQ(losses.size(), expected.size());
  for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]) << i;
}

// What a CPU cluster makes of the job.
std::vector<double> LossesOnCpus(const TinyJob& job) {
  auto cluster = TestCluster::Start({.workers = 4});
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  if (!cluster.ok()) return {};
  (*cluster)->RunJob(job.name, job.Text());
  std::vector<double> losses = Losses(**cluster, job.name);
  EXPECT_EQ((*cluster)->Stop(), 0);
  return losses;
}

int PidOfRank(const TestCluster& cluster, int stage, int data_rank) {
  for (const Json& worker : cluster.CtlJson({"worker", "list"})) {
    if (worker["stage"] == stage && worker["data_rank"] == data_rank) return worker["pid"];
  }
  return 0;
}

// A job that is left alone and one whose rank is killed, over one kind of links; the digest of both. `zero_more`: of
// the one that is killed.
std::string RunAndKill(const std::string& links, const std::vector<double>& expected, const std::string& zero_more) {
  auto started = TestCluster::Start(GpuCluster(links));
  EXPECT_TRUE(started.ok()) << started.status();
  if (!started.ok()) return "";
  TestCluster& cluster = **started;
  const Json worker = cluster.CtlJson({"worker", "show", "worker-2"});
  EXPECT_NE(worker.dump().find("2.28.9"), std::string::npos) << worker.dump(1);
  EXPECT_NE(worker.dump().find("cuda:2"), std::string::npos) << worker.dump(1);

  const TinyJob calm = Job("calm");
  const Json ended = cluster.RunJob(calm.name, calm.Text());
  EXPECT_NE(cluster.Ctl({"job", "show", calm.name}).output.find("placement local, mirrored"), std::string::npos);
  ExpectNear(Losses(cluster, calm.name), expected);

  TinyJob killed = Job("killed");
  killed.zero_more = zero_more;
  EXPECT_EQ(cluster.Submit(killed.Text()).exit_code, 0);
  cluster.WaitForJob(
      killed.name, [](const Json& status) { return status.value("step", 0) >= 3; }, absl::Seconds(60));
  const int pid = PidOfRank(cluster, 1, 0);
  EXPECT_TRUE(pid > 0 && kill(pid, SIGKILL) == 0) << pid;
  const Json recovered = cluster.WaitForEnd(killed.name);
  EXPECT_EQ(recovered.value("state", ""), "SUCCEEDED") << recovered.dump(1) << cluster.LogTails();
  EXPECT_GE(recovered.value("recoveries", 0), 1);
  EXPECT_EQ(recovered.value("digest", ""), ended.value("digest", "none"));
  EXPECT_EQ(recovered.value("samples_repeated", -1), 0);
  EXPECT_EQ(cluster.Stop(), 0);
  return ended.value("digest", "");
}

TEST(EmulatedGpuTest, TrainsAsCpusDoAndRecoversOverBothLinksAndOffloaded) {
  const std::vector<double> expected = LossesOnCpus(Job("cpu"));
  const std::string over_nccl = RunAndKill("nccl", expected, "");
  EXPECT_EQ(over_nccl.size(), 32u);
  EXPECT_EQ(RunAndKill("host", expected, ", placement: local, offload: host"), over_nccl);
}

// A worker's device fails: the job is told in the device's words and goes on, on a new process for the same device.
TEST(EmulatedGpuTest, ALostDeviceEndsItsWorkerAndAnotherTakesItsPlace) {
  const std::string fault = absl::StrCat(testing::TempDir(), "/fault-", getpid());
  setenv("PENSTOCK_EMULATOR_FAULT", fault.c_str(), 1);
  auto started = TestCluster::Start(
      {.workers = 2,
       .more_arguments = {absl::StrCat("--bindir=", BinaryFolder()), "--device=cuda:0,cuda:1", "--device_links=nccl"}});
  unsetenv("PENSTOCK_EMULATOR_FAULT");
  ASSERT_TRUE(started.ok()) << started.status();
  TestCluster& cluster = **started;
  const std::vector<int> before = {cluster.WorkerPid(0), cluster.WorkerPid(1)};
  TinyJob job = Job("faulty");
  job.data = 1;
  job.steps = 12;
  ASSERT_EQ(cluster.Submit(job.Text()).exit_code, 0);
  cluster.WaitForJob(
      job.name, [](const Json& status) { return status.value("step", 0) >= 2; }, absl::Seconds(60));
  std::ofstream(fault).put('x');
  const Json ended = cluster.WaitForEnd(job.name);
  EXPECT_EQ(ended.value("state", ""), "SUCCEEDED") << ended.dump(1) << cluster.LogTails();
  EXPECT_GE(ended.value("recoveries", 0), 1);
  EXPECT_FALSE(std::filesystem::exists(fault));
  const std::string events = cluster.Ctl({"job", "events", job.name}).output;
  EXPECT_NE(events.find("an illegal memory access was encountered"), std::string::npos) << events;
  EXPECT_NE(events.find("process ends"), std::string::npos) << events;
  const bool first = cluster.WorkerPid(0) != before[0];
  const bool second = cluster.WorkerPid(1) != before[1];
  EXPECT_NE(first, second) << cluster.LogTails();
  EXPECT_EQ(cluster.Stop(), 0);
}

}  // namespace
}  // namespace penstock
