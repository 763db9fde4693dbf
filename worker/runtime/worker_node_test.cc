#include "worker/runtime/worker_node.h"

#include <gtest/gtest.h>

#include <malloc.h>

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "services/base/log.h"
#include "worker/comm/fake/communicator.h"
#include "worker/runtime/fake_state_client.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

using Kind = v1::MemberReport;

// One worker of a job with one rank; each job id has a parameter service of its own.
class WorkerNodeTest : public testing::Test {
 protected:
  WorkerNodeTest() {
    SetLogLevel(LogLevel::kError);
    WorkerNode::Options options;
    options.threads = 2;
    options.connect = [](const RankPlan& plan) {
      return MakeFakeConnector(std::make_shared<FakeNetwork>(plan.mesh.size()), plan.rank(), {});
    };
    options.state = [this](const RankPlan& plan) -> absl::StatusOr<std::unique_ptr<StateClient>> {
      std::lock_guard<std::mutex> lock(mutex_);
      auto& service = services_[plan.assignment.job_id()];
      if (service == nullptr) service = FakeStateService::Create(plan.spec(), 1);
      return service->NewClient(plan.assignment.epoch());
    };
    options.report = [this](v1::MemberReport report) { log_.Add(std::move(report)); };
    node_ = std::make_unique<WorkerNode>(std::move(options));
  }

  v1::MemberCommand Assign(const std::string& job, uint64_t epoch, int steps, uint64_t start = 0) {
    v1::MemberCommand command;
    v1::Assignment& assignment = *command.mutable_assign();
    assignment.set_job_id(job);
    assignment.set_epoch(epoch);
    *assignment.mutable_spec() = MakeTinyJob({.steps = steps});
    assignment.add_peers()->set_worker_id("worker-0");
    assignment.add_shards("in process");
    assignment.set_start_step(start);
    return command;
  }
  v1::MemberCommand Stop(const std::string& job, uint64_t epoch) {
    v1::MemberCommand command;
    command.mutable_stop()->set_job_id(job);
    command.mutable_stop()->set_epoch(epoch);
    command.mutable_stop()->set_reason("the test says so");
    return command;
  }
  bool Reported(Kind::ReportCase kind, const std::string& job, uint64_t epoch) {
    return log_.WaitFor([&](const std::vector<v1::MemberReport>& reports) {
      for (const v1::MemberReport& report : reports) {
        if (report.report_case() == kind && report.job_id() == job && report.epoch() == epoch) return true;
      }
      return false;
    });
  }

  ReportLog log_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<FakeStateService>> services_;
  std::unique_ptr<WorkerNode> node_;
};

TEST_F(WorkerNodeTest, RunsJobAfterJobAndHoldsNothingBetween) {
  EXPECT_FALSE(node_->running().has_value());
  for (int i = 0; i < 5; ++i) {
    const std::string job = absl::StrCat("job-", i);
    node_->OnCommand(Assign(job, 1, 2));
    ASSERT_TRUE(Reported(Kind::kFinished, job, 1));
    ASSERT_TRUE(node_->running().has_value());
    EXPECT_EQ(node_->running()->job_id(), job);
    node_->OnCommand(Stop(job, 1));
    ASSERT_TRUE(Reported(Kind::kStopped, job, 1));
    EXPECT_EQ(services_[job]->clients_alive(), 0);
  }
  EXPECT_FALSE(node_->running().has_value());
  EXPECT_TRUE(node_->cursor().job_id().empty());
}

int ThreadsOfProcess() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) ++count;
  return count;
}

TEST_F(WorkerNodeTest, ManyJobsOneAfterTheOtherDoNotGrowTheProcess) {
  const auto run = [&](int i) {
    const std::string job = absl::StrCat("job-", i);
    node_->OnCommand(Assign(job, 1, 2));
    ASSERT_TRUE(Reported(Kind::kFinished, job, 1));
    node_->OnCommand(Stop(job, 1));
    ASSERT_TRUE(Reported(Kind::kStopped, job, 1));
    while (node_->busy()) absl::SleepFor(absl::Milliseconds(1));
    std::lock_guard<std::mutex> lock(mutex_);
    services_.clear();
    log_.Clear();
  };
  for (int i = 0; i < 5; ++i) run(i);
  const size_t bytes = mallinfo2().uordblks;
  const int threads = ThreadsOfProcess();
  for (int i = 5; i < 25; ++i) run(i);
  // Far below what a single rank holds.
  EXPECT_LT(mallinfo2().uordblks, bytes + (64 << 10));
  // The threads that computed end by themselves, a moment after their rank.
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (ThreadsOfProcess() > threads && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_LE(ThreadsOfProcess(), threads);
}

TEST_F(WorkerNodeTest, AStopEndsTheRankAtOnceAndAnOlderOneDoesNot) {
  node_->OnCommand(Assign("job", 5, 1000000));
  ASSERT_TRUE(Reported(Kind::kStep, "job", 5));
  node_->OnCommand(Stop("job", 4));
  ASSERT_TRUE(Reported(Kind::kStopped, "job", 4));
  node_->OnCommand(Stop("another", 9));
  ASSERT_TRUE(Reported(Kind::kStopped, "another", 9));
  ASSERT_TRUE(node_->running().has_value());
  EXPECT_EQ(node_->cursor().epoch(), 5u);
  const absl::Time begin = absl::Now();
  node_->OnCommand(Stop("job", 6));
  ASSERT_TRUE(Reported(Kind::kStopped, "job", 5));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  ASSERT_TRUE(Reported(Kind::kStopped, "job", 6));
  EXPECT_FALSE(node_->running().has_value());
  // Asked again, it answers again.
  node_->OnCommand(Stop("job", 7));
  ASSERT_TRUE(Reported(Kind::kStopped, "job", 7));
}

TEST_F(WorkerNodeTest, TheSameAssignmentTwiceRunsOnceAndANewerOneReplaces) {
  node_->OnCommand(Assign("job", 1, 1000000));
  node_->OnCommand(Assign("job", 1, 1000000));
  ASSERT_TRUE(Reported(Kind::kStep, "job", 1));
  EXPECT_EQ(log_.Count(Kind::kReady), 1);
  node_->OnCommand(Assign("other", 1, 1000000));
  ASSERT_TRUE(Reported(Kind::kStopped, "job", 1));
  ASSERT_TRUE(Reported(Kind::kStep, "other", 1));
  EXPECT_EQ(node_->running()->job_id(), "other");
}

TEST_F(WorkerNodeTest, TheEndOfTheProcessStopsTheRank) {
  node_->OnCommand(Assign("job", 1, 1000000));
  ASSERT_TRUE(Reported(Kind::kStep, "job", 1));
  node_->Stop("the process ends");
  EXPECT_EQ(log_.Count(Kind::kStopped), 1);
  // Nothing is taken any more.
  node_->OnCommand(Assign("late", 1, 1));
  node_.reset();
  EXPECT_EQ(services_.count("late"), 0u);
}

}  // namespace
}  // namespace penstock
