// Ranks as threads of one process, on a fake network and a fake parameter service: the same bits at every depth, and an
// end in time whatever happens.
#include "worker/runtime/rank_runner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "services/telemetry/metrics.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

using Kind = v1::MemberReport;

struct Outcome {
  std::vector<float> weights;
  std::vector<v1::StepRecord> records;
  std::vector<v1::ValidationRecord> validations;
};

Outcome Train(const TinyJob& job, int shards = 2) {
  const v1::JobSpec spec = MakeTinyJob(job);
  auto service = FakeStateService::Create(spec, shards);
  ReportLog log;
  TestEpoch epoch({.spec = spec, .service = service, .log = &log});
  EXPECT_TRUE(epoch.WaitFinished());
  EXPECT_TRUE(epoch.WaitIdle());
  epoch.StopAll();
  Outcome outcome;
  outcome.weights = service->weights();
  for (const v1::MemberReport& report : log.All()) {
    EXPECT_FALSE(report.has_failed()) << report.DebugString();
    if (report.has_step()) outcome.records.push_back(report.step());
    if (report.has_validation()) outcome.validations.push_back(report.validation());
  }
  EXPECT_EQ(log.Count(Kind::kReady), epoch.size());
  EXPECT_EQ(log.Count(Kind::kStopped), epoch.size());
  EXPECT_EQ(log.Count(Kind::kFinished), 1);
  EXPECT_EQ(service->committed_step(), job.steps);
  EXPECT_EQ(service->clients_alive(), 0);
  return outcome;
}

void ExpectSameBits(const Outcome& a, const Outcome& b) {
  ASSERT_EQ(a.weights.size(), b.weights.size());
  EXPECT_EQ(std::memcmp(a.weights.data(), b.weights.data(), a.weights.size() * sizeof(float)), 0);
  ASSERT_EQ(a.records.size(), b.records.size());
  for (size_t i = 0; i < a.records.size(); ++i) {
    EXPECT_EQ(a.records[i].loss(), b.records[i].loss()) << "step " << i + 1;
    EXPECT_EQ(a.records[i].gradient_norm(), b.records[i].gradient_norm()) << "step " << i + 1;
  }
  ASSERT_EQ(a.validations.size(), b.validations.size());
  for (size_t i = 0; i < a.validations.size(); ++i) EXPECT_EQ(a.validations[i].loss(), b.validations[i].loss());
}

TEST(RankRunnerTest, TheLossGoesDownAndTheRecordsAreWhole) {
  const Outcome outcome = Train({.pipeline = 2, .data = 2, .steps = 12, .validate_every = 4});
  ASSERT_EQ(outcome.records.size(), 12u);
  for (size_t i = 0; i < outcome.records.size(); ++i) {
    const v1::StepRecord& record = outcome.records[i];
    EXPECT_EQ(record.step(), i + 1);
    EXPECT_EQ(record.epoch(), 1u);
    EXPECT_EQ(record.tokens(), 16u * 16u);
    EXPECT_GT(record.step_seconds(), 0);
    ASSERT_EQ(record.samples_size(), 1);
    EXPECT_EQ(record.samples(0).begin(), i * 16);
    EXPECT_EQ(record.samples(0).end(), (i + 1) * 16);
  }
  EXPECT_NEAR(outcome.records.front().loss(), std::log(128.0), 0.3);
  EXPECT_LT(outcome.records.back().loss(), outcome.records.front().loss() - 0.5);
  ASSERT_EQ(outcome.validations.size(), 3u);
  EXPECT_EQ(outcome.validations[0].step(), 4u);
  EXPECT_EQ(outcome.validations[2].step(), 12u);
  EXPECT_LT(outcome.validations[2].loss(), outcome.validations[0].loss());
}

TEST(RankRunnerTest, NoBitDependsOnDepthScheduleOrShards) {
  const Outcome reference = Train({.pipeline = 1, .steps = 3, .validate_every = 3}, 1);
  for (const int pipeline : {1, 2, 4}) {
    for (const auto schedule : {v1::ParallelSpec::SCHEDULE_GPIPE, v1::ParallelSpec::SCHEDULE_1F1B}) {
      SCOPED_TRACE(absl::StrCat("pipeline ", pipeline, ", ", v1::ParallelSpec::Schedule_Name(schedule)));
      ExpectSameBits(reference, Train({.pipeline = pipeline, .schedule = schedule, .steps = 3, .validate_every = 3},
                                      pipeline == 2 ? 3 : 2));
    }
  }
}

TEST(RankRunnerTest, NoBitDependsOnDepthOrZeroStageWithTwoDataRanks) {
  const Outcome reference = Train({.pipeline = 1, .data = 2});
  ExpectSameBits(reference, Train({.pipeline = 2, .data = 2, .schedule = v1::ParallelSpec::SCHEDULE_GPIPE}));
  ExpectSameBits(reference, Train({.pipeline = 4, .data = 2}));
  ExpectSameBits(reference, Train({.pipeline = 2, .data = 2, .zero = 0}));
  // Twice the data ranks over the same samples: near, not equal.
  v1::JobSpec spec = MakeTinyJob({.pipeline = 1, .data = 1});
  spec.mutable_training()->set_global_batch_size(16);
  auto service = FakeStateService::Create(spec, 2);
  ReportLog log;
  TestEpoch epoch({.spec = spec, .service = service, .log = &log});
  ASSERT_TRUE(epoch.WaitFinished());
  epoch.StopAll();
  size_t step = 0;
  for (const v1::MemberReport& report : log.All()) {
    if (report.has_step()) {
      EXPECT_NEAR(report.step().loss(), reference.records[step++].loss(), 1e-4);
    }
  }
  EXPECT_EQ(step, reference.records.size());
}

TEST(RankRunnerTest, TensorParallelRanksTrainAsOneDoes) {
  // A vocabulary that 2 doesn't divide.
  const Outcome one = Train({.pipeline = 1, .data = 2, .steps = 6, .validate_every = 6, .vocab_size = 129});
  const Outcome two =
      Train({.pipeline = 1, .data = 2, .steps = 6, .validate_every = 6, .tensor = 2, .vocab_size = 129});
  ASSERT_EQ(two.records.size(), one.records.size());
  // Before the first update: the shared parameters' gradients count once.
  EXPECT_NEAR(two.records[0].gradient_norm(), one.records[0].gradient_norm(), 1e-6 * one.records[0].gradient_norm());
  for (size_t i = 0; i < one.records.size(); ++i) {
    EXPECT_NEAR(two.records[i].loss(), one.records[i].loss(), 1e-4) << "step " << i + 1;
    EXPECT_EQ(two.records[i].tokens(), one.records[i].tokens());
    ASSERT_EQ(two.records[i].samples_size(), 1);
  }
  EXPECT_NEAR(two.validations.at(0).loss(), one.validations.at(0).loss(), 1e-4);
}

TEST(RankRunnerTest, NoBitDependsOnDepthScheduleShardsOrZeroStageWithTwoTensorRanks) {
  const TinyJob job = {.pipeline = 1, .steps = 3, .validate_every = 3, .tensor = 2, .vocab_size = 129};
  const auto with = [](TinyJob changed, int pipeline, int data, v1::ParallelSpec::Schedule schedule, int zero) {
    changed.pipeline = pipeline;
    changed.data = data;
    changed.schedule = schedule;
    changed.zero = zero;
    return changed;
  };
  const auto gpipe = v1::ParallelSpec::SCHEDULE_GPIPE;
  const auto one_f_one_b = v1::ParallelSpec::SCHEDULE_1F1B;
  const Outcome reference = Train(job, 1);
  ExpectSameBits(reference, Train(with(job, 2, 1, gpipe, 1), 3));
  ExpectSameBits(reference, Train(with(job, 4, 1, one_f_one_b, 0), 2));
  const Outcome two_data_ranks = Train(with(job, 1, 2, gpipe, 0), 1);
  ExpectSameBits(two_data_ranks, Train(with(job, 2, 2, one_f_one_b, 1), 3));
}

TEST(RankRunnerTest, ANewEpochGoesOnFromTheCommittedStepWithTheSameBits) {
  const Outcome reference = Train({.pipeline = 2, .data = 2, .steps = 6});
  const v1::JobSpec spec = MakeTinyJob({.pipeline = 2, .data = 2, .steps = 6});
  auto service = FakeStateService::Create(spec, 2);
  ReportLog log;
  {
    TestEpoch first({.spec = spec, .service = service, .epoch = 1, .log = &log});
    ASSERT_TRUE(log.WaitForCount(Kind::kStep, 3));
    first.StopAll();
  }
  service->Seal(2);
  TestEpoch second(
      {.spec = spec, .service = service, .epoch = 2, .start_step = service->committed_step(), .log = &log});
  ASSERT_TRUE(second.WaitFinished());
  second.StopAll();
  const std::vector<float> weights = service->weights();
  EXPECT_EQ(std::memcmp(weights.data(), reference.weights.data(), weights.size() * sizeof(float)), 0);
}

TEST(RankRunnerTest, AStartAtTheLastStepValidatesAndFinishes) {
  const v1::JobSpec spec = MakeTinyJob({.pipeline = 2, .steps = 2, .validate_every = 2});
  auto service = FakeStateService::Create(spec, 1);
  ReportLog log;
  {
    TestEpoch first({.spec = spec, .service = service, .epoch = 1, .log = &log});
    ASSERT_TRUE(first.WaitFinished());
    first.StopAll();
  }
  TestEpoch second({.spec = spec, .service = service, .epoch = 2, .start_step = 2, .log = &log});
  ASSERT_TRUE(second.WaitFinished());
  second.StopAll();
  EXPECT_EQ(log.Count(Kind::kStep), 2);
  ASSERT_EQ(log.Count(Kind::kValidation), 2);
  std::vector<double> losses;
  for (const v1::MemberReport& report : log.All()) {
    if (report.has_validation()) losses.push_back(report.validation().loss());
  }
  EXPECT_EQ(losses[0], losses[1]);
}

// Stops all ranks at a random moment, again and again: each end comes fast, and the service is never left with a
// mixture, which the comparison with an undisturbed run shows.
TEST(RankRunnerTest, AnAbortAnywhereEndsInTimeAndLosesNothing) {
  constexpr int kSteps = 8;
  const Outcome reference = Train({.pipeline = 4, .data = 1, .steps = kSteps});
  const v1::JobSpec spec = MakeTinyJob({.pipeline = 4, .data = 1, .steps = kSteps});
  auto service = FakeStateService::Create(spec, 2);
  ReportLog log;
  uint64_t number = 1;
  // The more epochs, the later the abort: from connecting to far into the job.
  for (; number < 60 && service->committed_step() < kSteps; ++number) {
    TestEpoch epoch(
        {.spec = spec, .service = service, .epoch = number, .start_step = service->committed_step(), .log = &log});
    absl::SleepFor(absl::Milliseconds(number * 2));
    const absl::Time begin = absl::Now();
    epoch.StopAll();
    EXPECT_LT(absl::Now() - begin, absl::Seconds(1)) << "epoch " << number;
    service->Seal(number + 1);
  }
  TestEpoch last(
      {.spec = spec, .service = service, .epoch = number, .start_step = service->committed_step(), .log = &log});
  ASSERT_TRUE(last.WaitFinished());
  last.StopAll();
  ExpectNoPermanentFailure(log);
  const std::vector<float> weights = service->weights();
  EXPECT_EQ(std::memcmp(weights.data(), reference.weights.data(), weights.size() * sizeof(float)), 0);
}

// Whatever a rank is doing: every instruction of the lists, training and validation, and what comes before and between.
TEST(RankRunnerTest, AStopInTheMiddleOfEachInstructionEndsInTime) {
  const v1::JobSpec spec = MakeTinyJob({.pipeline = 2, .data = 2, .steps = 1000000, .validate_every = 1});
  auto service = FakeStateService::Create(spec, 2);
  uint64_t epoch_number = 0;
  const std::vector<std::string> activities = {
      "planning memory", "connecting",   "Forward",          "Backward",     "SendActivation",
      "RecvActivation",  "SendGradient", "RecvGradient",     "(summing",     "(pushing",
      "(gathering",      "(committing",  "(waiting for the", "validation: ", "validation: RecvActivation"};
  for (const std::string& activity : activities) {
    SCOPED_TRACE(activity);
    ReportLog log;
    const uint64_t start = service->committed_step();
    TestEpoch epoch({.spec = spec, .service = service, .epoch = ++epoch_number, .start_step = start, .log = &log});
    // Stops come as soon as some rank is seen at it. What is too short to be seen often is tried for a while.
    const absl::Time give_up = absl::Now() + absl::Milliseconds(500);
    bool seen = false;
    while (!seen && absl::Now() < give_up) {
      for (int i = 0; i < epoch.size() && !seen; ++i) {
        seen = absl::StrContains(epoch.rank(i).cursor().instruction(), activity);
      }
    }
    const absl::Time begin = absl::Now();
    epoch.StopAll();
    EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
    EXPECT_EQ(log.Count(Kind::kStopped), epoch.size());
    ExpectNoPermanentFailure(log);
    EXPECT_EQ(service->clients_alive(), 0);
    service->Seal(epoch_number + 1);
  }
}

TEST(RankRunnerTest, AStopWhilePeersAreMissingEndsConnecting) {
  const v1::JobSpec spec = MakeTinyJob({.pipeline = 2});
  auto service = FakeStateService::Create(spec, 1);
  ReportLog log;
  TestEpoch epoch({.spec = spec, .service = service, .log = &log, .absent = {1}});
  while (epoch.rank(0).cursor().instruction() != "connecting to peers") absl::SleepFor(absl::Milliseconds(1));
  const absl::Time begin = absl::Now();
  epoch.StopAll();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  EXPECT_EQ(log.Count(Kind::kStopped), 1);
  EXPECT_EQ(log.Count(Kind::kFailed), 0);
}

TEST(RankRunnerTest, ALostPeerIsNamedWithTheInstruction) {
  const v1::JobSpec spec = MakeTinyJob({.pipeline = 4, .steps = 100000});
  auto service = FakeStateService::Create(spec, 1);
  ReportLog log;
  TestEpoch epoch({.spec = spec, .service = service, .log = &log});
  ASSERT_TRUE(log.WaitForCount(Kind::kStep, 2));
  const absl::Time begin = absl::Now();
  epoch.network().Kill(1);
  ASSERT_TRUE(log.WaitForCount(Kind::kFailed, 1));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  v1::MemberReport first;
  for (const v1::MemberReport& report : log.All()) {
    if (report.has_failed()) {
      first = report;
      break;
    }
  }
  // Its neighbours blame it; the killed rank itself, a thread that lives on here, blames a neighbour.
  const v1::RankFailed& failed = first.failed();
  if (failed.rank() != 1) {
    EXPECT_EQ(failed.suspect_worker_id(), "worker-1");
  }
  EXPECT_FALSE(failed.permanent());
  EXPECT_TRUE(absl::StrContains(failed.message(), "step ")) << failed.message();
  EXPECT_FALSE(failed.cursor().instruction().empty());
  EXPECT_EQ(failed.cursor().epoch(), 1u);
  EXPECT_FALSE(epoch.rank(static_cast<int>(failed.rank())).ended());  // holds its connections until it is stopped
  // Alive: it answers a stop.
  epoch.StopAll();
  EXPECT_EQ(log.Count(Kind::kStopped), 4);
}

TEST(RankRunnerTest, ALostTensorRankIsNamedAndNeverForGood) {
  const v1::JobSpec spec = MakeTinyJob({.pipeline = 2, .steps = 100000, .tensor = 2});
  for (int lost = 0; lost < 4; ++lost) {
    SCOPED_TRACE(lost);
    auto service = FakeStateService::Create(spec, 1);
    ReportLog log;
    TestEpoch epoch({.spec = spec, .service = service, .log = &log});
    ASSERT_TRUE(log.WaitForCount(Kind::kStep, 2));
    epoch.network().Kill(lost);
    ASSERT_TRUE(log.WaitForCount(Kind::kFailed, 2));
    ExpectNoPermanentFailure(log);
    epoch.StopAll();
  }
}

TEST(RankRunnerTest, AFailedRankLetsGoByItselfInTheEnd) {
  const v1::JobSpec spec = MakeTinyJob({.pipeline = 2, .steps = 100000});
  auto service = FakeStateService::Create(spec, 1);
  ReportLog log;
  TestEpoch epoch({.spec = spec, .service = service, .log = &log, .hold_after_failure = absl::Milliseconds(50)});
  ASSERT_TRUE(log.WaitForCount(Kind::kStep, 1));
  epoch.network().Kill(0);
  EXPECT_TRUE(epoch.rank(0).WaitEnded(absl::Seconds(5)));
  EXPECT_TRUE(epoch.rank(1).WaitEnded(absl::Seconds(5)));
  EXPECT_EQ(log.Count(Kind::kStopped), 2);
  EXPECT_EQ(service->clients_alive(), 0);
}

TEST(RankRunnerTest, AFencedEpochEndsByItself) {
  const v1::JobSpec spec = MakeTinyJob({.pipeline = 1, .data = 2, .steps = 100000});
  auto service = FakeStateService::Create(spec, 2);
  ReportLog log;
  TestEpoch epoch({.spec = spec, .service = service, .log = &log, .hold_after_failure = absl::Seconds(1)});
  ASSERT_TRUE(log.WaitForCount(Kind::kStep, 2));
  service->Seal(2);
  for (int i = 0; i < epoch.size(); ++i) EXPECT_TRUE(epoch.rank(i).WaitEnded(absl::Seconds(10)));
  const uint64_t committed = service->committed_step();
  ExpectNoPermanentFailure(log);
  for (const v1::MemberReport& report : log.All()) {
    if (report.has_step()) {
      EXPECT_LE(report.step().step(), committed);
    }
  }
}

TEST(RankRunnerTest, AShardThatIsAwayForAMomentIsAskedAgain) {
  const v1::JobSpec spec = MakeTinyJob({.pipeline = 2, .steps = 3});
  auto service = FakeStateService::Create(spec, 2);
  service->FailCommits(3);
  ReportLog log;
  TestEpoch epoch({.spec = spec, .service = service, .log = &log});
  ASSERT_TRUE(epoch.WaitFinished());
  epoch.StopAll();
  EXPECT_EQ(service->committed_step(), 3u);
  EXPECT_EQ(log.Count(Kind::kFailed), 0);
}

TEST(RankRunnerTest, ALossThatIsNotFiniteIsPermanent) {
  const v1::JobSpec spec = MakeTinyJob({.pipeline = 2});
  auto service = FakeStateService::Create(spec, 1);
  service->Poison(5, std::numeric_limits<float>::quiet_NaN());
  ReportLog log;
  TestEpoch epoch({.spec = spec, .service = service, .log = &log});
  ASSERT_TRUE(log.WaitForCount(Kind::kFailed, 1));
  for (const v1::MemberReport& report : log.All()) {
    if (!report.has_failed()) continue;
    EXPECT_TRUE(report.failed().permanent());
    EXPECT_TRUE(absl::StrContains(report.failed().message(), "step 1")) << report.failed().message();
    EXPECT_TRUE(absl::StrContains(report.failed().message(), "not finite")) << report.failed().message();
  }
  epoch.StopAll();
}

TEST(RankRunnerTest, AnAssignmentThatMakesNoSenseIsPermanent) {
  v1::JobSpec spec = MakeTinyJob({.pipeline = 1});
  auto service = FakeStateService::Create(spec, 1);
  spec.mutable_data()->set_path("/nowhere/corpus.txt");
  ReportLog log;
  TestEpoch epoch({.spec = spec, .service = service, .log = &log});
  ASSERT_TRUE(log.WaitForCount(Kind::kFailed, 1));
  const v1::RankFailed failed = log.All().front().failed();
  EXPECT_TRUE(failed.permanent());
  EXPECT_TRUE(absl::StrContains(failed.message(), "/nowhere/corpus.txt")) << failed.message();
  epoch.StopAll();
}

TEST(RankRunnerTest, TimelineAndMetricsShowWhatWasDone) {
  const v1::JobSpec spec = MakeTinyJob({.pipeline = 2, .steps = 3});
  auto service = FakeStateService::Create(spec, 1);
  ReportLog log;
  Timeline timeline;
  Metrics metrics("worker");
  WorkerMetrics worker_metrics(metrics);
  TestEpoch epoch({.spec = spec, .service = service, .log = &log, .timeline = &timeline, .metrics = &worker_metrics});
  ASSERT_TRUE(epoch.WaitIdle());
  epoch.StopAll();
  // 4 micro-batches: forward, backward, a message each way for one of the stages' two sides, reduce, update.
  size_t forwards = 0;
  for (const TimelineEntry& entry : timeline.Entries()) {
    EXPECT_LE(entry.begin, entry.end);
    forwards += entry.instruction.op == Op::kForward ? 1 : 0;
  }
  EXPECT_EQ(forwards, 2u * 3u * 4u);
  const std::string text = metrics.ExportText();
  EXPECT_TRUE(absl::StrContains(text, "penstock_worker_step_seconds_count 6")) << text;
  EXPECT_TRUE(absl::StrContains(text, absl::StrCat("penstock_worker_tokens_total ", 3 * 8 * 16))) << text;
  EXPECT_TRUE(absl::StrContains(text, "penstock_worker_memory_bytes{class=\"gradient\"} 0")) << text;
  EXPECT_TRUE(absl::StrContains(text, "penstock_worker_ranks_ended_total{outcome=\"finished\"} 2")) << text;
}

}  // namespace
}  // namespace penstock
