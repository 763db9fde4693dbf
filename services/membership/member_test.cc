#include "services/membership/member.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <mutex>

#include "services/membership/fake_coordinator.h"

namespace penstock {
namespace {

using Reports = FakeCoordinator::Reports;

int CountHellos(const Reports& reports) {
  return std::count_if(reports.begin(), reports.end(), [](const v1::MemberReport& r) { return r.has_hello(); });
}
int CountHeartbeats(const Reports& reports) {
  return std::count_if(reports.begin(), reports.end(), [](const v1::MemberReport& r) { return r.has_heartbeat(); });
}
std::vector<uint64_t> Steps(const Reports& reports) {
  std::vector<uint64_t> steps;
  for (const v1::MemberReport& report : reports) {
    if (report.has_step()) steps.push_back(report.step().step());
  }
  return steps;
}
v1::MemberReport StepReport(uint64_t step) {
  v1::MemberReport report;
  report.set_job_id("job-1");
  report.mutable_step()->set_step(step);
  return report;
}
v1::MemberCommand Stop(uint64_t epoch) {
  v1::MemberCommand command;
  command.mutable_stop()->set_job_id("job-1");
  command.mutable_stop()->set_epoch(epoch);
  return command;
}

class MemberTest : public testing::Test {
 protected:
  MemberTest() {
    EXPECT_TRUE(coordinator_.Serve());
    options_.coordinator_address = coordinator_.address();
    options_.info.set_role(v1::MEMBER_ROLE_WORKER);
    options_.info.set_id("worker-0");
    options_.info.set_address("127.0.0.1:7001");
    options_.reconnect_delay = absl::Milliseconds(10);
    options_.reconnect_delay_max = absl::Milliseconds(50);
    options_.on_command = [this](const v1::MemberCommand& command) {
      std::lock_guard<std::mutex> lock(mutex_);
      commands_.push_back(command);
      changed_.notify_all();
    };
  }

  std::unique_ptr<Member> Start() {
    absl::StatusOr<std::unique_ptr<Member>> member = Member::Start(options_);
    EXPECT_TRUE(member.ok()) << member.status();
    return *std::move(member);
  }
  bool WaitForCommand(const std::function<bool(const v1::MemberCommand&)>& wanted) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10),
                             [&] { return std::any_of(commands_.begin(), commands_.end(), wanted); });
  }

  FakeCoordinator coordinator_;
  Member::Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<v1::MemberCommand> commands_;
};

TEST_F(MemberTest, SaysHelloAndKeepsBeating) {
  options_.running = [] {
    v1::RunningRank running;
    running.set_job_id("job-9");
    running.set_rank(3);
    return running;
  };
  options_.cursor = [] {
    v1::Cursor cursor;
    cursor.set_instruction("Forward mb 2");
    return cursor;
  };
  const std::unique_ptr<Member> member = Start();
  EXPECT_TRUE(member->WaitConnected(absl::Seconds(10)));
  ASSERT_TRUE(coordinator_.WaitFor([](const Reports& reports) { return CountHeartbeats(reports) >= 5; }));
  const Reports reports = coordinator_.reports();
  EXPECT_EQ(CountHellos(reports), 1);
  EXPECT_EQ(reports[0].hello().info().id(), "worker-0");
  EXPECT_EQ(reports[0].hello().info().incarnation(), member->incarnation());
  EXPECT_NE(reports[0].hello().info().incarnation(), 0u);
  EXPECT_NE(reports[0].hello().info().pid(), 0u);
  EXPECT_EQ(reports[0].hello().running().job_id(), "job-9");
  uint64_t sequence = 0;
  for (const v1::MemberReport& report : reports) {
    if (!report.has_heartbeat()) continue;
    EXPECT_EQ(report.heartbeat().sequence(), ++sequence);
    EXPECT_EQ(report.heartbeat().cursor().instruction(), "Forward mb 2");
  }
}

TEST_F(MemberTest, HandsOutCommandsAndHandsInReports) {
  const std::unique_ptr<Member> member = Start();
  ASSERT_TRUE(member->WaitConnected(absl::Seconds(10)));
  ASSERT_TRUE(coordinator_.Send(Stop(4)));
  EXPECT_TRUE(WaitForCommand([](const v1::MemberCommand& command) { return command.stop().epoch() == 4; }));
  for (uint64_t step = 1; step <= 100; ++step) ASSERT_EQ(member->Report(StepReport(step)), absl::OkStatus());
  ASSERT_TRUE(coordinator_.WaitFor([](const Reports& reports) { return Steps(reports).size() >= 100; }));
  const std::vector<uint64_t> steps = Steps(coordinator_.reports());
  EXPECT_TRUE(std::is_sorted(steps.begin(), steps.end()));
  EXPECT_EQ(steps.size(), 100u);
  EXPECT_TRUE(member->Flush(absl::Seconds(10)));
}

TEST_F(MemberTest, ComesBackAfterABrokenStreamAndLosesNoReport) {
  const std::unique_ptr<Member> member = Start();
  const uint64_t incarnation = member->incarnation();
  for (uint64_t step = 1; step <= 300; ++step) {
    ASSERT_EQ(member->Report(StepReport(step)), absl::OkStatus());
    if (step % 100 == 0) {
      ASSERT_TRUE(member->WaitConnected(absl::Seconds(10)));
      coordinator_.BreakStreams();
    }
  }
  ASSERT_TRUE(coordinator_.WaitFor([](const Reports& reports) {
    const std::vector<uint64_t> steps = Steps(reports);
    return !steps.empty() && *std::max_element(steps.begin(), steps.end()) == 300;
  }));
  const Reports reports = coordinator_.reports();
  std::vector<uint64_t> steps = Steps(reports);
  std::sort(steps.begin(), steps.end());
  steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
  EXPECT_EQ(steps.size(), 300u);
  EXPECT_GE(CountHellos(reports), 2);
  for (const v1::MemberReport& report : reports) {
    if (report.has_hello()) {
      EXPECT_EQ(report.hello().info().incarnation(), incarnation);
    }
  }
}

TEST_F(MemberTest, ComesBackToACoordinatorThatWasRestartedOnItsPort) {
  const std::unique_ptr<Member> member = Start();
  ASSERT_TRUE(member->WaitConnected(absl::Seconds(10)));
  const int port = coordinator_.port();
  coordinator_.Stop();
  ASSERT_EQ(member->Report(StepReport(7)), absl::OkStatus());  // waits for it
  FakeCoordinator next;
  ASSERT_TRUE(next.Serve(port));
  ASSERT_TRUE(next.WaitFor([](const Reports& reports) { return !Steps(reports).empty(); }));
  const Reports reports = next.reports();
  EXPECT_TRUE(reports[0].has_hello());
  EXPECT_EQ(reports[0].hello().info().incarnation(), member->incarnation());
  EXPECT_EQ(Steps(reports), std::vector<uint64_t>{7});
  EXPECT_TRUE(next.WaitFor([](const Reports& more) { return CountHeartbeats(more) >= 2; }));
}

TEST_F(MemberTest, ARefusalForGoodEndsIt) {
  coordinator_.RefuseWith(grpc::Status(grpc::StatusCode::ABORTED, "worker-0 was replaced"));
  std::promise<absl::Status> refused;
  options_.on_refused = [&](const absl::Status& status) { refused.set_value(status); };
  const std::unique_ptr<Member> member = Start();
  std::future<absl::Status> future = refused.get_future();
  ASSERT_EQ(future.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  const absl::Status status = future.get();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(status.message(), "worker-0 was replaced");
  EXPECT_EQ(member->Report(StepReport(1)).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(CountHellos(coordinator_.reports()), 1);
}

TEST_F(MemberTest, OtherRefusalsAreTriedAgain) {
  coordinator_.RefuseWith(grpc::Status(grpc::StatusCode::UNAVAILABLE, "reading my store"));
  const std::unique_ptr<Member> member = Start();
  ASSERT_TRUE(coordinator_.WaitFor([](const Reports& reports) { return CountHellos(reports) >= 3; }));
  EXPECT_FALSE(member->connected());
  coordinator_.RefuseWith(grpc::Status::OK);
  EXPECT_TRUE(member->WaitConnected(absl::Seconds(10)));
}

TEST_F(MemberTest, ASlowCommandHoldsUpNoHeartbeat) {
  std::promise<void> release;
  std::promise<void> entered;
  options_.on_command = [&, future = release.get_future().share()](const v1::MemberCommand& command) {
    if (!command.has_stop()) return;
    entered.set_value();
    future.wait();
  };
  const std::unique_ptr<Member> member = Start();
  ASSERT_TRUE(member->WaitConnected(absl::Seconds(10)));
  ASSERT_TRUE(coordinator_.Send(Stop(1)));
  entered.get_future().wait();
  const int before = CountHeartbeats(coordinator_.reports());
  EXPECT_TRUE(coordinator_.WaitFor([&](const Reports& reports) { return CountHeartbeats(reports) >= before + 5; }));
  // Not even over a broken stream.
  const int hellos = CountHellos(coordinator_.reports());
  coordinator_.BreakStreams();
  EXPECT_TRUE(coordinator_.WaitFor(
      [&](const Reports& reports) { return CountHellos(reports) > hellos && reports.back().has_heartbeat(); }));
  release.set_value();
}

TEST_F(MemberTest, TheQueueIsBounded) {
  coordinator_.Stop();
  options_.reports_max = 3;
  const std::unique_ptr<Member> member = Start();
  for (uint64_t step = 1; step <= 3; ++step) EXPECT_EQ(member->Report(StepReport(step)), absl::OkStatus());
  EXPECT_EQ(member->Report(StepReport(4)).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(member->Flush(absl::Milliseconds(20)));
}

TEST_F(MemberTest, StopHandsInWhatWasReportedAndSaysGoodbye) {
  const std::unique_ptr<Member> member = Start();
  ASSERT_TRUE(member->WaitConnected(absl::Seconds(10)));
  for (uint64_t step = 1; step <= 50; ++step) ASSERT_EQ(member->Report(StepReport(step)), absl::OkStatus());
  member->Stop();
  ASSERT_TRUE(coordinator_.WaitForGoodbye());
  EXPECT_EQ(Steps(coordinator_.reports()).size(), 50u);
  EXPECT_EQ(member->Report(StepReport(51)).code(), absl::StatusCode::kCancelled);
}

TEST_F(MemberTest, StopIsQuickWhateverTheCoordinatorDoes) {
  coordinator_.StaySilent(true);
  std::unique_ptr<Member> unwelcome = Start();
  ASSERT_TRUE(coordinator_.WaitFor([](const Reports& reports) { return CountHellos(reports) >= 1; }));
  options_.coordinator_address = "127.0.0.1:1";
  std::unique_ptr<Member> lonely = Start();
  const auto begin = std::chrono::steady_clock::now();
  unwelcome.reset();
  lonely.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
}

TEST_F(MemberTest, BadOptionsAreRefused) {
  for (const auto& spoil : std::vector<std::function<void(Member::Options&)>>{
           [](Member::Options& o) { o.coordinator_address = ""; }, [](Member::Options& o) { o.info.set_id(""); },
           [](Member::Options& o) { o.info.set_role(v1::MEMBER_ROLE_UNSPECIFIED); },
           [](Member::Options& o) { o.on_command = nullptr; }}) {
    Member::Options options = options_;
    spoil(options);
    EXPECT_EQ(Member::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace penstock
