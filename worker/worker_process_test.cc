// penstock-worker as a process: trains with others over Gloo, loses a peer to kill -9, takes the next epoch, ends on
// SIGTERM with 0.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "services/parameter/client.h"
#include "services/parameter/server.h"
#include "worker/fake_coordinator.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

using Kind = v1::MemberReport;

// One worker process; killed when the object goes.
class WorkerProcess {
 public:
  WorkerProcess(const std::string& id, const std::vector<std::string>& arguments) {
    const std::string binary =
        absl::StrCat(getenv("TEST_SRCDIR"), "/", getenv("TEST_WORKSPACE"), "/worker/penstock-worker");
    std::vector<std::string> words = {binary, absl::StrCat("--id=", id), "--threads=1"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_ = fork();
    PENSTOCK_CHECK(pid_ >= 0);
    if (pid_ == 0) {
      execv(argv[0], argv.data());
      _exit(127);
    }
  }
  ~WorkerProcess() {
    if (pid_ > 0) End(SIGKILL);
  }

  // Its wait status.
  int End(int signal) {
    kill(pid_, signal);
    return Wait();
  }
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_ = -1;
};

class WorkerProcessTest : public testing::Test {
 protected:
  void Open(const v1::JobSpec& spec) {
    spec_ = spec;
    shard_ = *ParameterServer::Start({});
    client_ = std::make_unique<ShardClient>("shard 0", shard_->address());
    v1::OpenJobRequest open;
    open.set_job_id("job");
    *open.mutable_spec() = spec;
    open.set_shard_count(1);
    open.set_epoch(1);
    ASSERT_TRUE(client_->OpenJob(open, {.timeout = absl::Seconds(20)}).ok());
  }
  std::unique_ptr<WorkerProcess> StartWorker(const std::string& id) {
    auto process = std::make_unique<WorkerProcess>(
        id, std::vector<std::string>{absl::StrCat("--coordinator=", coordinator_.address())});
    EXPECT_TRUE(coordinator_.WaitJoined(id));
    return process;
  }
  void Assign(const std::vector<std::string>& workers, uint64_t epoch, uint64_t start_step) {
    for (size_t rank = 0; rank < workers.size(); ++rank) {
      v1::MemberCommand command;
      v1::Assignment& assignment = *command.mutable_assign();
      assignment.set_job_id("job");
      assignment.set_epoch(epoch);
      *assignment.mutable_spec() = spec_;
      assignment.set_rank(rank);
      for (size_t peer = 0; peer < workers.size(); ++peer) {
        assignment.add_peers()->set_rank(peer);
        assignment.mutable_peers(peer)->set_worker_id(workers[peer]);
      }
      assignment.add_shards(shard_->address());
      assignment.set_start_step(start_step);
      EXPECT_TRUE(coordinator_.Send(workers[rank], command));
    }
  }
  void StopRank(const std::string& worker, uint64_t epoch) {
    v1::MemberCommand command;
    command.mutable_stop()->set_job_id("job");
    command.mutable_stop()->set_epoch(epoch);
    command.mutable_stop()->set_reason("the test says so");
    EXPECT_TRUE(coordinator_.Send(worker, command));
  }
  bool Reported(Kind::ReportCase kind, uint64_t epoch, const std::string& worker = "",
                absl::Duration timeout = absl::Seconds(30)) {
    return coordinator_.WaitFor(
        [&](const FakeCoordinator::Reports& reports) {
          for (const auto& [id, report] : reports) {
            if (report.report_case() == kind && report.epoch() == epoch && (worker.empty() || id == worker))
              return true;
          }
          return false;
        },
        timeout);
  }

  // A heartbeat carries it, whenever the next one comes.
  bool CursorNamesTheJob(const std::string& worker) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (coordinator_.cursor(worker).job_id() != "job") {
      if (absl::Now() > deadline) return false;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return true;
  }

  FakeCoordinator coordinator_;
  v1::JobSpec spec_;
  std::unique_ptr<ParameterServer> shard_;
  std::unique_ptr<ShardClient> client_;
};

TEST_F(WorkerProcessTest, APeerIsKilledAndTheNextEpochEndsTheJob) {
  // Far more steps than pass before the kill; the second epoch's job is cut to what is left.
  Open(MakeTinyJob({.pipeline = 2, .steps = 100000}));
  auto first = StartWorker("worker-0");
  auto second = StartWorker("worker-1");
  auto spare = StartWorker("worker-2");
  Assign({"worker-0", "worker-1"}, 1, 0);
  ASSERT_TRUE(Reported(Kind::kReady, 1, "worker-0"));
  ASSERT_TRUE(Reported(Kind::kReady, 1, "worker-1"));
  ASSERT_TRUE(coordinator_.WaitFor([](const FakeCoordinator::Reports& reports) {
    return !reports.empty() && reports.back().second.step().step() >= 20;
  }));
  EXPECT_TRUE(CursorNamesTheJob("worker-0"));

  second->End(SIGKILL);
  // Where worker-0 waits for worker-1 it says so at once. Where it waits for the version that worker-1 would have
  // committed, only the coordinator can tell it, as it does below.
  Reported(Kind::kFailed, 1, "worker-0", absl::Seconds(2));
  for (const auto& [id, report] : coordinator_.reports()) {
    if (!report.has_failed()) continue;
    EXPECT_EQ(report.failed().suspect_worker_id(), "worker-1") << report.failed().message();
    EXPECT_FALSE(report.failed().permanent());
    EXPECT_TRUE(absl::StrContains(report.failed().message(), "step ")) << report.failed().message();
  }

  v1::SealRequest seal;
  seal.set_job_id("job");
  seal.set_epoch(2);
  const auto sealed = client_->Seal(seal, {.timeout = absl::Seconds(20)});
  ASSERT_TRUE(sealed.ok()) << sealed.status();
  if (sealed->has_prepared()) {
    v1::DecideRequest discard;
    discard.set_job_id("job");
    discard.set_epoch(2);
    discard.set_step(sealed->prepared().step());
    ASSERT_TRUE(client_->Decide(discard, {.timeout = absl::Seconds(20)}).ok());
  }
  StopRank("worker-0", 1);
  ASSERT_TRUE(Reported(Kind::kStopped, 1, "worker-0"));
  spec_.mutable_training()->set_steps(sealed->committed_step() + 5);
  Assign({"worker-2", "worker-0"}, 2, sealed->committed_step());
  ASSERT_TRUE(Reported(Kind::kFinished, 2, "worker-0"));
  uint64_t expected = sealed->committed_step();
  for (const auto& [id, report] : coordinator_.reports()) {
    if (!report.has_step() || report.epoch() != 2) continue;
    EXPECT_EQ(report.step().step(), ++expected);
  }
  EXPECT_EQ(expected, sealed->committed_step() + 5);

  // In the middle of an epoch: it says that it has stopped, and ends with 0.
  const int status = first->End(SIGTERM);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_TRUE(Reported(Kind::kStopped, 2, "worker-0"));
  const int idle = spare->End(SIGTERM);
  EXPECT_TRUE(WIFEXITED(idle) && WEXITSTATUS(idle) == 0) << idle;
}

TEST_F(WorkerProcessTest, WrongFlagsEndItWithOneAndAReason) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {},                                                       // no coordinator
           {"--coordinator=127.0.0.1:1", "--listen=nowhere"},        // no port
           {"--coordinator=127.0.0.1:1", "--address=192.0.2.1"},     // not this machine's
           {"--coordinator=127.0.0.1:1", "--listen=0.0.0.0:0"},      // no address for peers
           {"--coordinator=127.0.0.1:1", "--threads=-1"},            //
           {absl::StrCat("--coordinator=", coordinator_.address()),  // a port in use
            absl::StrCat("--listen=", coordinator_.address())}}) {
    WorkerProcess process("worker-9", arguments);
    const int status = process.Wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
  }
}

}  // namespace
}  // namespace penstock
