#include "services/rpc/server.h"

#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "protos/penstock/v1/coordinator.grpc.pb.h"
#include "services/rpc/channel.h"
#include "services/rpc/deadline.h"
#include "services/rpc/status.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

// A synchronous service.
class FakeRendezvous : public v1::Rendezvous::Service {
 public:
  grpc::Status SetValue(grpc::ServerContext* context, const v1::SetValueRequest*, v1::SetValueResponse*) override {
    time_left = TimeLeft(*context);
    return ToGrpcStatus(WithRpcDetails(absl::FailedPreconditionError("the epoch is over"), "details"));
  }
  absl::Duration time_left;
};

// A callback service beside it: its stream lasts until it is cancelled.
class FakeMembership : public v1::Membership::CallbackService {
 public:
  grpc::ServerBidiReactor<v1::MemberReport, v1::MemberCommand>* Join(grpc::CallbackServerContext*) override {
    class Reactor : public grpc::ServerBidiReactor<v1::MemberReport, v1::MemberCommand> {
     public:
      Reactor() { StartSendInitialMetadata(); }
      void OnCancel() override { Finish(grpc::Status::CANCELLED); }
      void OnDone() override { delete this; }
    };
    return new Reactor;
  }
};

class RpcServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    RpcServer::Options options;
    options.services = {&rendezvous_, &membership_};
    auto server = RpcServer::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = CreateChannel(server_->address());
  }

  // One message there and one back, as bytes: neither reflection nor health has generated code among Debian's headers.
  absl::StatusOr<std::string> Call(const std::string& method, const std::string& request) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    SetDeadline(context, absl::Seconds(20));
    grpc::CompletionQueue queue;
    const grpc::Slice slice(request);
    grpc::ByteBuffer response;
    auto call = stub.PrepareCall(&context, method, &queue);
    const auto wait = [&] {
      void* tag = nullptr;
      bool ok = false;
      return queue.Next(&tag, &ok) && ok;
    };
    call->StartCall(nullptr);
    if (wait()) {
      call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
      if (wait()) {
        call->Read(&response, nullptr);
        wait();
        call->WritesDone(nullptr);
        wait();
      }
    }
    grpc::Status status;
    call->Finish(&status, nullptr);
    wait();
    queue.Shutdown();
    while (wait()) {
    }
    if (!status.ok()) return ToAbslStatus(status);
    grpc::Slice joined;
    if (!response.DumpToSingleSlice(&joined).ok()) return absl::InternalError("no response");
    return std::string(joined.begin(), joined.end());
  }

  // grpc.health.v1: the request's field 1 is the service, the response's the state (1 SERVING, 2 NOT_SERVING).
  absl::StatusOr<std::string> Health(const std::string& service) {
    return Call("/grpc.health.v1.Health/Check", absl::StrCat("\x0a", std::string(1, service.size()), service));
  }

  FakeRendezvous rendezvous_;
  FakeMembership membership_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(RpcServerTest, ServesHealthForEachServiceUntilItDrains) {
  for (const char* service : {"", "penstock.v1.Rendezvous", "penstock.v1.Membership"}) {
    const auto health = Health(service);
    ASSERT_TRUE(health.ok()) << service << ": " << health.status();
    EXPECT_EQ(*health, "\x08\x01") << service;
  }
  EXPECT_EQ(Health("penstock.v1.Coordinator").status().code(), absl::StatusCode::kNotFound);
  server_->Drain();
  for (const char* service : {"", "penstock.v1.Rendezvous", "penstock.v1.Membership"}) {
    EXPECT_EQ(*Health(service), "\x08\x02") << service;
  }
}

TEST_F(RpcServerTest, ReflectionListsTheServices) {
  // ServerReflectionRequest.list_services is field 7.
  const auto services =
      Call("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", std::string("\x3a\x01*", 3));
  ASSERT_TRUE(services.ok()) << services.status();
  EXPECT_THAT(*services, HasSubstr("penstock.v1.Rendezvous"));
  EXPECT_THAT(*services, HasSubstr("penstock.v1.Membership"));
  EXPECT_THAT(*services, HasSubstr("grpc.health.v1.Health"));
}

TEST_F(RpcServerTest, StatusAndDeadlineArriveWhole) {
  auto stub = v1::Rendezvous::NewStub(channel_);
  grpc::ClientContext context;
  SetDeadline(context, absl::Seconds(30));
  v1::SetValueResponse response;
  const absl::Status status =
      ToAbslStatus(stub->SetValue(&context, {}, &response), "Rendezvous.SetValue", server_->address());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), absl::StrCat("Rendezvous.SetValue at ", server_->address(), ": the epoch is over"));
  EXPECT_EQ(RpcDetails(status), "details");
  EXPECT_GT(rendezvous_.time_left, absl::Seconds(15));
  // On the wire a timeout is rounded up to few digits.
  EXPECT_LE(rendezvous_.time_left, absl::Seconds(31));
}

TEST_F(RpcServerTest, AMessageAboveTheLimitIsRefused) {
  auto stub = v1::Rendezvous::NewStub(channel_);
  grpc::ClientContext context;
  SetDeadline(context, absl::Seconds(30));
  v1::SetValueRequest request;
  request.set_value(std::string(kRpcMessageBytesMax, 'x'));
  v1::SetValueResponse response;
  EXPECT_EQ(stub->SetValue(&context, request, &response).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(RpcServerTest, StopsInTimeWithAStreamOpen) {
  auto stub = v1::Membership::NewStub(channel_);
  grpc::ClientContext context;
  auto stream = stub->Join(&context);
  stream->WaitForInitialMetadata();
  const absl::Time start = absl::Now();
  server_->Stop(absl::Milliseconds(10));
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  v1::MemberCommand command;
  EXPECT_FALSE(stream->Read(&command));
  EXPECT_FALSE(stream->Finish().ok());
  server_->Stop();
}

TEST_F(RpcServerTest, APortInUseIsNamed) {
  RpcServer::Options options;
  options.address = server_->address();
  const auto second = RpcServer::Start(options);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(server_->address()));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("in use"));
}

TEST_F(RpcServerTest, WaitsForItsPortWhenAsked) {
  RpcServer::Options options;
  options.address = server_->address();
  options.bind_timeout = absl::Seconds(60);
  absl::StatusOr<std::unique_ptr<RpcServer>> second = absl::UnknownError("not run");
  std::thread starting([&] { second = RpcServer::Start(options); });
  server_.reset();
  starting.join();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ((*second)->address(), options.address);
}

// The channel that lost its server finds the next one on the same port by itself.
TEST_F(RpcServerTest, AChannelComesBackToARestartedServer) {
  ASSERT_TRUE(Health("").ok());
  RpcServer::Options options;
  options.address = server_->address();
  server_.reset();
  EXPECT_EQ(Health("").status().code(), absl::StatusCode::kUnavailable);
  auto second = RpcServer::Start(options);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(channel_->WaitForConnected(absl::ToChronoTime(absl::Now() + absl::Seconds(20))));
  EXPECT_TRUE(Health("").ok());
}

TEST(RpcServerStartTest, AnAddressThatIsNoneIsExplained) {
  RpcServer::Options options;
  options.address = "localhost";
  EXPECT_EQ(RpcServer::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
  // TEST-NET-1 (RFC 5737) is nobody's.
  options.address = "192.0.2.1:0";
  const absl::Status status = RpcServer::Start(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("192.0.2.1:0"));
}

}  // namespace
}  // namespace penstock
