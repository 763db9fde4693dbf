#include "coordinator/membership/service.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "grpcpp/grpcpp.h"
#include "services/rpc/channel.h"
#include "services/rpc/server.h"

namespace penstock {
namespace {

constexpr auto kPatience = std::chrono::seconds(20);

// Keeps what the streams said.
class Listener final : public MembershipListener {
 public:
  struct Report {
    uint64_t stream;
    v1::MemberReport report;
  };
  void OnReport(uint64_t stream, v1::MemberReport report, absl::Time) override {
    std::lock_guard lock(mutex_);
    reports_.push_back({stream, std::move(report)});
    changed_.notify_all();
  }
  void OnEnd(uint64_t stream, const std::string& reason) override {
    std::lock_guard lock(mutex_);
    ends_.push_back({stream, reason});
    changed_.notify_all();
  }
  Report WaitForReport(size_t index) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return reports_.size() > index; }));
    return reports_.size() > index ? reports_[index] : Report{};
  }
  std::pair<uint64_t, std::string> WaitForEnd(size_t index) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return ends_.size() > index; }));
    return ends_.size() > index ? ends_[index] : std::pair<uint64_t, std::string>{};
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Report> reports_;
  std::vector<std::pair<uint64_t, std::string>> ends_;
};

v1::MemberReport Hello(const std::string& id) {
  v1::MemberReport report;
  report.mutable_hello()->mutable_info()->set_id(id);
  return report;
}

v1::MemberCommand Stop(uint64_t epoch) {
  v1::MemberCommand command;
  command.mutable_stop()->set_epoch(epoch);
  return command;
}

class MembershipServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    RpcServer::Options options;
    options.services = {&service_};
    auto server = RpcServer::Start(std::move(options));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::Membership::NewStub(CreateChannel(server_->address()));
  }

  Listener listener_;
  MembershipService service_{&listener_, Clock::Real()};
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<v1::Membership::Stub> stub_;
};

TEST_F(MembershipServiceTest, CarriesReportsUpAndCommandsDownInOrder) {
  grpc::ClientContext context;
  auto stream = stub_->Join(&context);
  ASSERT_TRUE(stream->Write(Hello("worker-0")));
  const uint64_t number = listener_.WaitForReport(0).stream;
  EXPECT_EQ(listener_.WaitForReport(0).report.hello().info().id(), "worker-0");
  for (uint64_t epoch = 1; epoch <= 100; ++epoch) service_.Send(number, Stop(epoch));
  v1::MemberCommand command;
  for (uint64_t epoch = 1; epoch <= 100; ++epoch) {
    ASSERT_TRUE(stream->Read(&command));
    EXPECT_EQ(command.stop().epoch(), epoch);
  }
  // The last word, after what was sent before.
  service_.Send(number, Stop(101));
  service_.End(number, absl::AbortedError("another process took its place"));
  ASSERT_TRUE(stream->Read(&command));
  EXPECT_FALSE(stream->Read(&command));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(status.error_message(), "another process took its place");
  EXPECT_EQ(listener_.WaitForEnd(0).first, number);
  service_.Send(number, Stop(102));  // to a stream that is gone: nothing happens
}

TEST_F(MembershipServiceTest, AMemberThatHangsUpIsReportedOnce) {
  grpc::ClientContext context;
  auto stream = stub_->Join(&context);
  ASSERT_TRUE(stream->Write(Hello("worker-0")));
  const uint64_t number = listener_.WaitForReport(0).stream;
  context.TryCancel();
  EXPECT_EQ(listener_.WaitForEnd(0), (std::pair<uint64_t, std::string>(number, "connection closed")));
  stream->Finish();
}

TEST_F(MembershipServiceTest, AMemberThatDoesNotReadIsCutAndBlocksNobody) {
  grpc::ClientContext slow_context;
  auto slow = stub_->Join(&slow_context);
  ASSERT_TRUE(slow->Write(Hello("slow")));
  const uint64_t slow_number = listener_.WaitForReport(0).stream;
  grpc::ClientContext quick_context;
  auto quick = stub_->Join(&quick_context);
  ASSERT_TRUE(quick->Write(Hello("quick")));
  const uint64_t quick_number = listener_.WaitForReport(1).stream;

  v1::MemberCommand big = Stop(1);
  big.mutable_stop()->set_reason(std::string(1 << 20, 'x'));
  for (size_t i = 0; i < kCommandsMax + 64; ++i) service_.Send(slow_number, big);
  service_.Send(quick_number, Stop(7));
  v1::MemberCommand command;
  ASSERT_TRUE(quick->Read(&command));
  EXPECT_EQ(command.stop().epoch(), 7u);
  const auto end = listener_.WaitForEnd(0);
  EXPECT_EQ(end.first, slow_number);
  EXPECT_NE(end.second.find("doesn't read"), std::string::npos) << end.second;
  quick_context.TryCancel();
  quick->Finish();
  slow_context.TryCancel();
  slow->Finish();
}

TEST_F(MembershipServiceTest, StoppingEndsAllStreamsAndTakesNoNewOnes) {
  grpc::ClientContext context;
  auto stream = stub_->Join(&context);
  ASSERT_TRUE(stream->Write(Hello("worker-0")));
  listener_.WaitForReport(0);
  service_.EndAll(absl::UnavailableError("the coordinator is stopping"));
  v1::MemberCommand command;
  EXPECT_FALSE(stream->Read(&command));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  grpc::ClientContext late_context;
  auto late = stub_->Join(&late_context);
  EXPECT_FALSE(late->Read(&command));
  EXPECT_EQ(late->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace penstock
