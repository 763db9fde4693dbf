#include "worker/runtime/commit_driver.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "worker/runtime/rank_error.h"

namespace penstock {
namespace {

// Answers from a script, or not at all.
class ScriptedClient : public StateClient {
 public:
  using PrepareDone = std::function<void(absl::StatusOr<v1::PreparedStep>)>;
  using CommitDone = std::function<void(absl::StatusOr<uint64_t>)>;

  int shard_count() const override { return 2; }
  absl::Status Push(uint64_t, std::span<const GradientRange>) override { return absl::OkStatus(); }
  absl::Status Pull(uint64_t, std::span<const WeightRange>, absl::Duration) override { return absl::OkStatus(); }
  absl::Status AwaitVersion(uint64_t, std::span<const ElementRange>, absl::Duration) override {
    return absl::OkStatus();
  }
  void Cancel(const std::string&) override {}

  void Prepare(int shard, uint64_t step, const v1::StepInputs& inputs, PrepareDone done) override {
    ++prepares;
    if (silent) {
      held.push_back(std::move(done));
      asked.Notify();
      return;
    }
    if (!prepare_errors.empty()) {
      const absl::Status error = prepare_errors.front();
      prepare_errors.pop_front();
      return done(error);
    }
    v1::PreparedStep prepared;
    prepared.set_step(step);
    *prepared.mutable_inputs() = inputs;
    prepared.add_piece_square_sums(shard == 0 ? square_sum : 1.0);
    done(prepared);
  }
  void Commit(int, const v1::StepDecision& decision, const std::vector<v1::StepRecord>&, CommitDone done) override {
    ++commits;
    if (!commit_errors.empty()) {
      const absl::Status error = commit_errors.front();
      commit_errors.pop_front();
      return done(error);
    }
    done(decision.step());
  }

  int prepares = 0;
  int commits = 0;
  double square_sum = 3.0;
  bool silent = false;
  std::deque<absl::Status> prepare_errors;
  std::deque<absl::Status> commit_errors;
  std::vector<PrepareDone> held;
  absl::Notification asked;
};

StepLeader::Options LeaderOptions() {
  StepLeader::Options options;
  options.shard_count = 2;
  options.epoch = 1;
  options.optimizer.set_learning_rate(1e-3);
  options.optimizer.set_beta1(0.9);
  options.optimizer.set_beta2(0.999);
  options.total_steps = 10;
  options.backoff = {absl::Milliseconds(1), absl::Milliseconds(5)};
  return options;
}

v1::StepInputs Inputs() {
  v1::StepInputs inputs;
  inputs.set_loss_sum(8.0);
  inputs.set_target_count(4);
  v1::SampleRange* range = inputs.add_samples();
  range->set_end(2);
  return inputs;
}

TEST(CommitDriverTest, AsksAgainUntilEveryShardHasCommitted) {
  ScriptedClient client;
  client.prepare_errors = {absl::UnavailableError("away"), absl::DeadlineExceededError("slow")};
  client.commit_errors = {absl::UnavailableError("away"), absl::UnavailableError("away")};
  CommitDriver driver(LeaderOptions(), &client);
  const auto decision = driver.Commit(1, Inputs());
  ASSERT_TRUE(decision.ok()) << decision.status();
  EXPECT_EQ(decision->step(), 1u);
  EXPECT_DOUBLE_EQ(decision->gradient_norm(), 2.0 / 4);
  EXPECT_EQ(client.prepares, 4);
  EXPECT_EQ(client.commits, 4);
  // And the next step.
  EXPECT_EQ(driver.Commit(2, Inputs())->step(), 2u);
}

TEST(CommitDriverTest, AFencedEpochIsToldApartFromAStepThatCannotBe) {
  {
    ScriptedClient client;
    client.prepare_errors = {absl::FailedPreconditionError("epoch 1 is over")};
    CommitDriver driver(LeaderOptions(), &client);
    const absl::Status status = driver.Commit(1, Inputs()).status();
    EXPECT_TRUE(IsFenced(status)) << status;
    EXPECT_FALSE(IsPermanent(status)) << status;
    EXPECT_EQ(client.commits, 0);
  }
  ScriptedClient client;
  client.square_sum = std::numeric_limits<double>::infinity();
  CommitDriver driver(LeaderOptions(), &client);
  const absl::Status status = driver.Commit(1, Inputs()).status();
  EXPECT_FALSE(IsFenced(status)) << status;
  EXPECT_TRUE(IsPermanent(status)) << status;
  EXPECT_NE(status.message().find("step 1"), absl::string_view::npos) << status;
  EXPECT_EQ(client.commits, 0);
}

TEST(CommitDriverTest, AbortEndsTheWaitAndLateAnswersFindNobody) {
  ScriptedClient client;
  client.silent = true;
  absl::Status status;
  {
    StepLeader::Options options = LeaderOptions();
    options.shard_count = 1;
    CommitDriver driver(options, &client);
    std::thread committer([&] { status = driver.Commit(1, Inputs()).status(); });
    client.asked.WaitForNotification();
    const absl::Time begin = absl::Now();
    driver.Abort(absl::CancelledError("stop"));
    committer.join();
    EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  }
  EXPECT_EQ(status, absl::CancelledError("stop"));
  for (const auto& done : client.held) done(absl::CancelledError("late"));
}

}  // namespace
}  // namespace penstock
