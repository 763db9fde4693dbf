// The coordinator over real gRPC on loopback, with real member streams, a real store and fake shards.
#include "coordinator/server/coordinator.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "coordinator/jobs/fake_shards.h"
#include "coordinator/server/small_job.h"
#include "grpcpp/grpcpp.h"
#include "protos/penstock/v1/coordinator.grpc.pb.h"
#include "services/membership/member.h"
#include "services/rpc/channel.h"
#include "services/rpc/deadline.h"
#include "services/rpc/listener.h"

namespace penstock {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

// A worker or a shard: joins, says ready when it is assigned and stopped when it is told to stop. Listens at its address
// for as long as it lives, which is how a host shows that its process isn't gone.
class FakeProcess {
 public:
  FakeProcess(const std::string& coordinator, v1::MemberRole role, const std::string& id)
      : listener_(*OpenListener({"127.0.0.1", 0})) {
    Member::Options options;
    options.coordinator_address = coordinator;
    options.info.set_role(role);
    options.info.set_id(id);
    options.info.set_address(absl::StrCat("127.0.0.1:", *BoundPort(listener_)));
    options.reconnect_delay_max = absl::Milliseconds(100);
    options.running = [this] {
      std::lock_guard lock(mutex_);
      return running_;
    };
    options.on_command = [this](const v1::MemberCommand& command) { OnCommand(command); };
    auto member = Member::Start(std::move(options));
    EXPECT_TRUE(member.ok()) << member.status();
    std::lock_guard lock(mutex_);
    member_ = *std::move(member);
  }
  ~FakeProcess() {
    member_->Stop();
    close(listener_);
  }

  bool WaitConnected() { return member_->WaitConnected(kPatience); }
  void Report(const v1::MemberReport& report) { EXPECT_TRUE(member_->Report(report).ok()); }
  // The rank that it runs of the job, if any.
  std::optional<uint32_t> RankIn(const std::string& job_id) {
    std::lock_guard lock(mutex_);
    if (!running_.has_value() || running_->job_id() != job_id) return std::nullopt;
    return running_->rank();
  }

 private:
  void OnCommand(const v1::MemberCommand& command) {
    v1::MemberReport report;
    Member* member = nullptr;
    {
      std::lock_guard lock(mutex_);
      member = member_.get();
      if (command.has_assign()) {
        running_.emplace();
        running_->set_job_id(command.assign().job_id());
        running_->set_epoch(command.assign().epoch());
        running_->set_rank(command.assign().rank());
        report.mutable_ready()->set_rank(command.assign().rank());
        report.set_job_id(command.assign().job_id());
        report.set_epoch(command.assign().epoch());
      } else if (command.has_stop()) {
        running_.reset();
        report.mutable_stopped();
        report.set_job_id(command.stop().job_id());
        report.set_epoch(command.stop().epoch());
      } else {
        return;
      }
    }
    // Before Start has returned nothing but the Welcome comes.
    if (member != nullptr) member->Report(report).IgnoreError();
  }

  const int listener_;
  std::mutex mutex_;
  std::unique_ptr<Member> member_;
  std::optional<v1::RunningRank> running_;
};

class CoordinatorTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = testing::TempDir() + "coordinatorXXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    root_ = folder;
    std::ofstream(root_ + "/corpus.txt") << std::string(20000, 'a');
    options_.store_path = root_ + "/store";
    options_.root = root_;
    options_.shards = &shards_;
    options_.metrics_address = "127.0.0.1:0";
    // Long enough for a busy machine; tests that wait for its end set a short one.
    options_.lease = absl::Seconds(20);
    options_.return_grace = absl::Milliseconds(100);
  }
  void TearDown() override {
    processes_.clear();
    coordinator_.reset();
    std::filesystem::remove_all(root_);
  }

  void StartCoordinator() {
    auto coordinator = Coordinator::Start(options_);
    ASSERT_TRUE(coordinator.ok()) << coordinator.status();
    coordinator_ = *std::move(coordinator);
    channel_ = CreateChannel(coordinator_->address());
    stub_ = v1::Coordinator::NewStub(channel_);
  }
  void StartCluster(int workers, int shards) {
    StartCoordinator();
    for (int i = 0; i < workers; ++i) AddProcess(v1::MEMBER_ROLE_WORKER, absl::StrCat("worker-", i));
    for (int i = 0; i < shards; ++i) AddProcess(v1::MEMBER_ROLE_SHARD, absl::StrCat("params-", i));
    for (const auto& process : processes_) ASSERT_TRUE(process->WaitConnected());
  }
  void AddProcess(v1::MemberRole role, const std::string& id) {
    processes_.push_back(std::make_unique<FakeProcess>(coordinator_->address(), role, id));
  }

  v1::JobSpec Spec(const std::string& name, uint32_t workers, uint64_t steps) const {
    v1::JobSpec spec = SmallJob(name, steps, /*global_batch_size=*/8);
    spec.mutable_parallel()->set_data(workers);
    return spec;
  }
  grpc::Status Submit(const v1::JobSpec& spec, v1::JobStatus* job, const std::string& request_id = "") {
    grpc::ClientContext context;
    SetDeadline(context, kPatience);
    v1::SubmitJobRequest request;
    *request.mutable_spec() = spec;
    request.set_request_id(request_id);
    v1::SubmitJobResponse response;
    const grpc::Status status = stub_->SubmitJob(&context, request, &response);
    *job = response.job();
    return status;
  }
  grpc::Status GetJob(const std::string& name, v1::JobStatus* job) {
    grpc::ClientContext context;
    SetDeadline(context, kPatience);
    v1::GetJobRequest request;
    request.set_job(name);
    return stub_->GetJob(&context, request, job);
  }
  // Follows the job until `done` says yes.
  v1::JobStatus WaitFor(const std::string& name, const std::function<bool(const v1::JobStatus&)>& done) {
    grpc::ClientContext context;
    SetDeadline(context, kPatience);
    v1::GetJobRequest request;
    request.set_job(name);
    const auto reader = stub_->WatchJob(&context, request);
    v1::JobStatus status;
    while (reader->Read(&status)) {
      if (done(status)) {
        context.TryCancel();
        while (reader->Read(&status)) {
        }
        reader->Finish();
        v1::JobStatus now;
        EXPECT_TRUE(GetJob(name, &now).ok());
        return now;
      }
    }
    ADD_FAILURE() << "the watch of " << name << " ended with " << reader->Finish().error_message() << " at "
                  << status.ShortDebugString();
    return status;
  }
  v1::JobStatus WaitForState(const std::string& name, v1::JobState state) {
    return WaitFor(name, [state](const v1::JobStatus& status) { return status.state() == state; });
  }
  v1::JobStatus WaitForStep(const std::string& name, uint64_t step) {
    return WaitFor(name, [step](const v1::JobStatus& status) { return status.step() >= step; });
  }
  FakeProcess* Leader(const std::string& job_id) {
    for (const auto& process : processes_) {
      if (process->RankIn(job_id) == 0u) return process.get();
    }
    return nullptr;
  }
  void Train(const v1::JobStatus& job, int steps) {
    FakeProcess* const leader = Leader(job.id());
    ASSERT_NE(leader, nullptr);
    for (int i = 0; i < steps; ++i) {
      v1::MemberReport report;
      report.set_job_id(job.id());
      report.set_epoch(job.epoch());
      *report.mutable_step() = shards_.CommitStep(job.id(), job.epoch());
      leader->Report(report);
    }
  }
  void FinishJob(const v1::JobStatus& job) {
    v1::MemberReport report;
    report.set_job_id(job.id());
    report.set_epoch(job.epoch());
    report.mutable_validation()->set_step(job.steps());
    report.mutable_validation()->set_loss(1.5);
    Leader(job.id())->Report(report);
    report.mutable_finished();
    Leader(job.id())->Report(report);
  }
  std::vector<v1::StepRecord> History(const std::string& name, uint64_t from) {
    grpc::ClientContext context;
    SetDeadline(context, kPatience);
    v1::GetHistoryRequest request;
    request.set_job(name);
    request.set_from_step(from);
    const auto reader = stub_->GetHistory(&context, request);
    std::vector<v1::StepRecord> records;
    v1::GetHistoryResponse block;
    while (reader->Read(&block)) records.insert(records.end(), block.records().begin(), block.records().end());
    EXPECT_TRUE(reader->Finish().ok());
    return records;
  }

  std::string root_;
  FakeShards shards_{&LocalDisk()};
  Coordinator::Options options_;
  std::unique_ptr<Coordinator> coordinator_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Coordinator::Stub> stub_;
  std::vector<std::unique_ptr<FakeProcess>> processes_;
};

TEST_F(CoordinatorTest, AJobFromSubmissionToItsEnd) {
  StartCluster(2, 2);
  v1::JobStatus job;
  ASSERT_TRUE(Submit(Spec("first", 2, 1500), &job).ok());
  EXPECT_EQ(job.id().size(), 12u);
  job = WaitForState("first", v1::JOB_STATE_RUNNING);
  Train(job, 1500);
  WaitForStep("first", 1500);
  FinishJob(job);
  job = WaitForState("first", v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(job.samples_consumed(), 12000u);
  EXPECT_EQ(job.samples_repeated() + job.samples_skipped(), 0u);
  EXPECT_EQ(job.validation_loss(), 1.5);
  EXPECT_EQ(job.digest().size(), 32u);
  EXPECT_EQ(job.spec().data().path(), root_ + "/corpus.txt");

  // More than one block of it.
  const auto history = History("first", 0);
  ASSERT_EQ(history.size(), 1500u);
  for (size_t i = 0; i < history.size(); ++i) EXPECT_EQ(history[i].step(), i + 1);
  EXPECT_EQ(history.back().validation_loss(), 1.5);
  EXPECT_EQ(History(job.id().substr(0, 8), 1499).size(), 2u) << "a prefix of the id will do";

  grpc::ClientContext context;
  SetDeadline(context, kPatience);
  v1::ListEventsResponse events;
  v1::ListEventsRequest request;
  request.set_job("first");
  ASSERT_TRUE(stub_->ListEvents(&context, request, &events).ok());
  ASSERT_GE(events.events_size(), 3);
  EXPECT_EQ(events.events(0).message(), "submitted");
  EXPECT_EQ(events.events(0).job(), "first");
  EXPECT_EQ(events.events(events.events_size() - 1).message(), "succeeded: 1500 steps");
}

TEST_F(CoordinatorTest, WhatIsWrongInAJobIsInTheStatusDetails) {
  StartCluster(1, 1);
  v1::JobSpec spec = Spec("bad", 1, 10);
  spec.mutable_model()->set_heads(3);
  spec.mutable_training()->set_global_batch_size(0);
  v1::JobStatus job;
  const grpc::Status status = Submit(spec, &job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  v1::JobViolations violations;
  ASSERT_TRUE(violations.ParseFromString(status.error_details()));
  EXPECT_GE(violations.violations_size(), 2);
  spec = Spec("bad", 1, 10);
  spec.mutable_data()->set_path("none.txt");
  const grpc::Status missing = Submit(spec, &job);
  ASSERT_TRUE(violations.ParseFromString(missing.error_details()));
  ASSERT_EQ(violations.violations_size(), 1);
  EXPECT_EQ(violations.violations(0).field(), "data.path");
}

TEST_F(CoordinatorTest, NamesIdsAndUnknownJobs) {
  StartCluster(1, 1);
  v1::JobStatus job, again;
  ASSERT_TRUE(Submit(Spec("name", 1, 10), &job, "request").ok());
  ASSERT_TRUE(Submit(Spec("name", 1, 10), &again, "request").ok()) << "the same submission";
  EXPECT_EQ(again.id(), job.id());
  EXPECT_EQ(Submit(Spec("name", 1, 10), &again).error_code(), grpc::StatusCode::ALREADY_EXISTS);
  const grpc::Status big = Submit(Spec("big", 8, 10), &again);
  EXPECT_EQ(big.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << big.error_message();
  EXPECT_EQ(GetJob("nobody", &again).error_code(), grpc::StatusCode::NOT_FOUND);
  ASSERT_TRUE(GetJob(job.id(), &again).ok());
  EXPECT_EQ(again.name(), "name");

  const auto cancel = [this](const std::string& name, v1::JobStatus* status) {
    grpc::ClientContext context;
    SetDeadline(context, kPatience);
    v1::GetJobRequest request;
    request.set_job(name);
    return stub_->CancelJob(&context, request, status);
  };
  ASSERT_TRUE(cancel("name", &again).ok());
  EXPECT_EQ(again.state(), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(cancel("name", &again).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(cancel("nobody", &again).error_code(), grpc::StatusCode::NOT_FOUND);

  grpc::ClientContext context;
  SetDeadline(context, kPatience);
  v1::GetJobRequest request;
  request.set_job("nobody");
  const auto watch = stub_->WatchJob(&context, request);
  EXPECT_FALSE(watch->Read(&again));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(CoordinatorTest, MembersAreListedWithWhatTheyDo) {
  StartCluster(2, 1);
  v1::JobStatus job;
  ASSERT_TRUE(Submit(Spec("job", 2, 10), &job).ok());
  WaitForState("job", v1::JOB_STATE_RUNNING);
  grpc::ClientContext context;
  SetDeadline(context, kPatience);
  v1::ListMembersRequest request;
  request.set_role(v1::MEMBER_ROLE_WORKER);
  v1::ListMembersResponse members;
  ASSERT_TRUE(stub_->ListMembers(&context, request, &members).ok());
  ASSERT_EQ(members.members_size(), 2);
  EXPECT_EQ(members.members(1).info().id(), "worker-1");
  EXPECT_EQ(members.members(1).state(), "BUSY");
  EXPECT_EQ(members.members(1).job(), "job");
  EXPECT_EQ(members.members(1).data_rank(), 1u);
  EXPECT_LT(members.members(1).heartbeat_age_seconds(), 20);
}

TEST_F(CoordinatorTest, AnotherCoordinatorOnTheSameStoreAndPortTakesTheJobUp) {
  StartCluster(2, 2);
  v1::JobStatus job;
  ASSERT_TRUE(Submit(Spec("job", 2, 20), &job).ok());
  job = WaitForState("job", v1::JOB_STATE_RUNNING);
  Train(job, 5);
  WaitForStep("job", 5);
  options_.address = coordinator_->address();
  coordinator_.reset();
  Train(job, 3);  // nobody is there to hear of it
  StartCoordinator();
  job = WaitForStep("job", 8);
  EXPECT_EQ(job.epoch(), 1u);
  EXPECT_EQ(job.recoveries(), 0u);
  Train(job, 12);
  WaitForStep("job", 20);
  FinishJob(job);
  job = WaitForState("job", v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(job.samples_consumed(), 160u);
  EXPECT_EQ(job.samples_repeated() + job.samples_skipped(), 0u);
  EXPECT_EQ(History("job", 0).size(), 20u);
}

TEST_F(CoordinatorTest, ALostWorkerIsReplaced) {
  // Its host says that it is gone: nobody waits for the lease.
  options_.lease = absl::Minutes(5);
  StartCluster(3, 1);
  v1::JobStatus job;
  ASSERT_TRUE(Submit(Spec("job", 2, 20), &job).ok());
  job = WaitForState("job", v1::JOB_STATE_RUNNING);
  Train(job, 3);
  WaitForStep("job", 3);
  const auto victim = std::find_if(processes_.begin(), processes_.end(),
                                   [&job](const auto& process) { return process->RankIn(job.id()) == 1u; });
  ASSERT_NE(victim, processes_.end());
  processes_.erase(victim);
  job = WaitFor(
      "job", [](const v1::JobStatus& status) { return status.state() == v1::JOB_STATE_RUNNING && status.epoch() > 1; });
  EXPECT_EQ(job.step(), 3u);
  Train(job, 1);
  EXPECT_EQ(WaitForStep("job", 4).samples_consumed(), 32u);
}

TEST_F(CoordinatorTest, AClientThatDoesNotReadItsWatchHoldsUpNobody) {
  StartCluster(1, 1);
  v1::JobStatus job;
  ASSERT_TRUE(Submit(Spec("job", 1, 100000), &job).ok());
  job = WaitForState("job", v1::JOB_STATE_RUNNING);
  grpc::ClientContext lazy_context;
  v1::GetJobRequest request;
  request.set_job("job");
  const auto lazy = stub_->WatchJob(&lazy_context, request);
  Train(job, 2000);
  EXPECT_EQ(WaitForStep("job", 2000).step(), 2000u);
  // What it reads at last is not two thousand old statuses.
  v1::JobStatus status;
  int read = 0;
  while (status.step() < 2000) {
    ASSERT_TRUE(lazy->Read(&status));
    ++read;
  }
  EXPECT_LT(read, 1000);
  lazy_context.TryCancel();
  lazy->Finish();
}

TEST_F(CoordinatorTest, RanksMeetThroughTheRendezvous) {
  StartCluster(1, 1);
  v1::JobStatus job;
  ASSERT_TRUE(Submit(Spec("job", 1, 10), &job).ok());
  job = WaitForState("job", v1::JOB_STATE_RUNNING);
  const auto stub = v1::Rendezvous::NewStub(channel_);
  const auto get = [&](const std::string& key, absl::Duration timeout, v1::GetValuesResponse* response) {
    grpc::ClientContext context;
    SetDeadline(context, timeout);
    v1::GetValuesRequest request;
    request.set_job_id(job.id());
    request.set_epoch(job.epoch());
    request.add_keys(key);
    return stub->GetValues(&context, request, response).error_code();
  };
  v1::GetValuesResponse response;
  EXPECT_EQ(get("late", absl::Milliseconds(50), &response), grpc::StatusCode::DEADLINE_EXCEEDED);
  std::thread setter([&] {
    grpc::ClientContext context;
    SetDeadline(context, kPatience);
    v1::SetValueRequest request;
    request.set_job_id(job.id());
    request.set_epoch(job.epoch());
    request.set_key("key");
    request.set_value("value");
    v1::SetValueResponse ignored;
    EXPECT_TRUE(stub->SetValue(&context, request, &ignored).ok());
  });
  EXPECT_EQ(get("key", kPatience, &response), grpc::StatusCode::OK);
  setter.join();
  ASSERT_EQ(response.values_size(), 1);
  EXPECT_EQ(response.values(0), "value");
  // The epoch ends while somebody waits.
  std::thread waiter([&] {
    v1::GetValuesResponse never;
    const grpc::StatusCode code = get("never", kPatience, &never);
    EXPECT_TRUE(code == grpc::StatusCode::ABORTED || code == grpc::StatusCode::FAILED_PRECONDITION) << code;
  });
  grpc::ClientContext context;
  SetDeadline(context, kPatience);
  v1::GetJobRequest request;
  request.set_job("job");
  EXPECT_TRUE(stub_->CancelJob(&context, request, &job).ok());
  waiter.join();
}

TEST_F(CoordinatorTest, StoppingEndsWatchesAndStreamsAtOnce) {
  StartCluster(1, 1);
  v1::JobStatus job;
  ASSERT_TRUE(Submit(Spec("job", 1, 10), &job).ok());
  WaitForState("job", v1::JOB_STATE_RUNNING);
  grpc::ClientContext context;
  v1::GetJobRequest request;
  request.set_job("job");
  const auto watch = stub_->WatchJob(&context, request);
  v1::JobStatus status;
  ASSERT_TRUE(watch->Read(&status));
  const absl::Time begin = absl::Now();
  coordinator_->Stop();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
  while (watch->Read(&status)) {
  }
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  // It holds its store until it is gone.
  coordinator_.reset();
  StartCoordinator();
  EXPECT_EQ(WaitForState("job", v1::JOB_STATE_RUNNING).epoch(), 1u);
}

TEST_F(CoordinatorTest, AStoreOrPortInUseIsRefused) {
  StartCoordinator();
  Coordinator::Options other = options_;
  EXPECT_EQ(Coordinator::Start(other).status().code(), absl::StatusCode::kAlreadyExists);
  other.store_path = root_ + "/other";
  other.address = coordinator_->address();
  other.bind_timeout = absl::Milliseconds(50);
  const auto refused = Coordinator::Start(other);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kAlreadyExists) << refused.status();
  EXPECT_NE(refused.status().message().find(coordinator_->address()), absl::string_view::npos) << refused.status();
  other.lease = absl::Milliseconds(1);
  EXPECT_EQ(Coordinator::Start(other).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace penstock
