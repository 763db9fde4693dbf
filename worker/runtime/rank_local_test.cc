// Ranks that update the weights themselves, as threads of one process on a fake network and a fake parameter service:
// the bits of zero.placement service, whatever the cut, and a service that follows.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/plan/job_rules.h"
#include "services/telemetry/metrics.h"
#include "worker/runtime/rank_runner.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

using Kind = v1::MemberReport;

struct Placed {
  TinyJob job;
  v1::ZeroSpec::Placement placement = v1::ZeroSpec::PLACEMENT_LOCAL;
  v1::ZeroSpec::Mirror mirror = v1::ZeroSpec::MIRROR_UNSPECIFIED;
  int lag = 0;
  v1::TrainingSpec::Precision precision = v1::TrainingSpec::PRECISION_FP32;
};

// Large enough for several pieces, of which some are cut by every partition.
v1::JobSpec MakeSpec(const Placed& placed) {
  v1::JobSpec spec = MakeTinyJob(placed.job);
  spec.mutable_model()->set_hidden(64);
  spec.mutable_model()->clear_mlp_hidden();
  spec.mutable_training()->set_precision(placed.precision);
  v1::ZeroSpec& zero = *spec.mutable_parallel()->mutable_zero();
  zero.set_placement(placed.placement);
  zero.set_mirror(placed.mirror);
  if (placed.lag > 0) zero.set_mirror_lag(placed.lag);
  FillDefaults(&spec);
  for (const v1::JobViolation& violation : CheckJob(spec)) {
    ADD_FAILURE() << violation.field() << ": " << violation.message();
  }
  return spec;
}

struct Outcome {
  std::vector<float> weights;
  std::vector<v1::StepRecord> records;
  std::vector<double> validations;
};

// Reports in order: a validation never before its step's record.
void Collect(const ReportLog& log, Outcome* outcome) {
  for (const v1::MemberReport& report : log.All()) {
    EXPECT_FALSE(report.has_failed()) << report.DebugString();
    if (report.has_step()) outcome->records.push_back(report.step());
    if (report.has_validation()) {
      outcome->validations.push_back(report.validation().loss());
      ASSERT_FALSE(outcome->records.empty());
      EXPECT_EQ(outcome->records.back().step(), report.validation().step());
    }
  }
}

Outcome Train(const Placed& placed, int shards = 2) {
  const v1::JobSpec spec = MakeSpec(placed);
  auto service = FakeStateService::Create(spec, shards);
  ReportLog log;
  TestEpoch epoch({.spec = spec, .service = service, .log = &log});
  EXPECT_TRUE(epoch.WaitFinished());
  EXPECT_EQ(service->committed_step(), placed.job.steps);
  EXPECT_TRUE(epoch.WaitIdle());
  epoch.StopAll();
  // As a rank does that owns nothing and comes late.
  EXPECT_EQ(service->NewClient(1)->AwaitVersion(1, {}, absl::Seconds(1)), absl::OkStatus());
  Outcome outcome;
  outcome.weights = service->weights();
  Collect(log, &outcome);
  EXPECT_EQ(service->clients_alive(), 0);
  return outcome;
}

void ExpectSameBits(const Outcome& a, const Outcome& b) {
  ASSERT_EQ(a.weights.size(), b.weights.size());
  EXPECT_EQ(std::memcmp(a.weights.data(), b.weights.data(), a.weights.size() * sizeof(float)), 0);
  ASSERT_EQ(a.records.size(), b.records.size());
  for (size_t i = 0; i < a.records.size(); ++i) {
    EXPECT_EQ(a.records[i].step(), i + 1);
    EXPECT_EQ(a.records[i].loss(), b.records[i].loss()) << "step " << i + 1;
    EXPECT_EQ(a.records[i].gradient_norm(), b.records[i].gradient_norm()) << "step " << i + 1;
    EXPECT_EQ(a.records[i].learning_rate(), b.records[i].learning_rate()) << "step " << i + 1;
  }
  EXPECT_EQ(a.validations, b.validations);
}

void ExpectTheServicesBits(int data) {
  const TinyJob job{.data = data, .steps = 4, .validate_every = 2};
  const Outcome service = Train({.job = job, .placement = v1::ZeroSpec::PLACEMENT_SERVICE});
  struct Cut {
    int pipeline, zero, shards, lag;
  };
  for (const Cut& cut : {Cut{1, 1, 1, 1}, {2, 1, 3, 2}, {4, 0, 2, 1}, {2, 0, 1, 3}, {4, 1, 2, 1}}) {
    SCOPED_TRACE(absl::StrCat("data ", data, ", pipeline ", cut.pipeline, ", zero ", cut.zero));
    Placed placed{.job = job};
    placed.job.pipeline = cut.pipeline;
    placed.job.zero = cut.zero;
    placed.lag = cut.lag;
    ExpectSameBits(service, Train(placed, cut.shards));
    // What is published is the ranks' own state.
    placed.mirror = v1::ZeroSpec::MIRROR_OFF;
    placed.lag = 0;
    ExpectSameBits(service, Train(placed, cut.shards));
  }
}

TEST(RankLocalTest, UpdatesWithTheServicesBitsOnOneDataRank) { ExpectTheServicesBits(1); }
TEST(RankLocalTest, UpdatesWithTheServicesBitsOnTwoDataRanks) { ExpectTheServicesBits(2); }

TEST(RankLocalTest, UpdatesWithTheServicesBitsOnTwoTensorRanks) {
  for (const int zero : {1, 2}) {
    TinyJob job{.data = 2, .zero = zero, .steps = 3};
    job.tensor = 2;
    const Outcome service = Train({.job = job, .placement = v1::ZeroSpec::PLACEMENT_SERVICE});
    for (const int pipeline : {1, 2}) {
      SCOPED_TRACE(absl::StrCat("zero ", zero, ", pipeline ", pipeline));
      job.pipeline = pipeline;
      ExpectSameBits(service, Train({.job = job}));
      ExpectSameBits(service, Train({.job = job, .mirror = v1::ZeroSpec::MIRROR_OFF}));
    }
  }
}

// Owners keep fp32 master weights, and everybody computes with their roundings, as if the service had rounded.
TEST(RankLocalTest, UpdatesWithTheServicesBitsInBf16) {
  for (const int zero : {0, 1, 2}) {
    Placed service{.job = {.data = 2, .zero = zero, .steps = 3, .validate_every = 3},
                   .placement = v1::ZeroSpec::PLACEMENT_SERVICE,
                   .precision = v1::TrainingSpec::PRECISION_BF16};
    for (const int tensor : {1, 2}) {
      service.job.tensor = tensor;
      const Outcome reference = Train(service);
      Placed exact = service;
      exact.precision = v1::TrainingSpec::PRECISION_FP32;
      EXPECT_NE(Train(exact).weights, reference.weights) << "bf16 was asked for";
      for (const int pipeline : {1, 2}) {
        SCOPED_TRACE(absl::StrCat("zero ", zero, ", tensor ", tensor, ", pipeline ", pipeline));
        Placed local = service;
        local.job.pipeline = pipeline;
        local.placement = v1::ZeroSpec::PLACEMENT_LOCAL;
        ExpectSameBits(reference, Train(local));
        local.mirror = v1::ZeroSpec::MIRROR_OFF;
        ExpectSameBits(reference, Train(local));
      }
    }
  }
}

TEST(RankLocalTest, Zero2HasTheSameBitsAtEveryDepthScheduleAndPlacement) {
  for (const int data : {1, 2}) {
    const TinyJob job{.data = data, .zero = 2, .steps = 4, .validate_every = 2};
    const Outcome reference = Train({.job = job, .placement = v1::ZeroSpec::PLACEMENT_SERVICE});
    struct Cut {
      int pipeline;
      v1::ParallelSpec::Schedule schedule;
      v1::ZeroSpec::Placement placement;
    };
    for (const Cut& cut : {Cut{2, v1::ParallelSpec::SCHEDULE_GPIPE, v1::ZeroSpec::PLACEMENT_SERVICE},
                           {4, v1::ParallelSpec::SCHEDULE_1F1B, v1::ZeroSpec::PLACEMENT_SERVICE},
                           {1, v1::ParallelSpec::SCHEDULE_GPIPE, v1::ZeroSpec::PLACEMENT_LOCAL},
                           {2, v1::ParallelSpec::SCHEDULE_1F1B, v1::ZeroSpec::PLACEMENT_LOCAL}}) {
      SCOPED_TRACE(absl::StrCat("data ", data, ", pipeline ", cut.pipeline, ", placement ", cut.placement));
      Placed placed{.job = job, .placement = cut.placement};
      placed.job.pipeline = cut.pipeline;
      placed.job.schedule = cut.schedule;
      ExpectSameBits(reference, Train(placed));
    }
    // Another order of additions than ZeRO 1's, so near and not equal.
    TinyJob one = job;
    one.zero = 1;
    const Outcome zero1 = Train({.job = one, .placement = v1::ZeroSpec::PLACEMENT_SERVICE});
    ASSERT_EQ(zero1.records.size(), reference.records.size());
    for (size_t i = 0; i < zero1.records.size(); ++i) {
      EXPECT_NEAR(zero1.records[i].loss(), reference.records[i].loss(), 1e-4) << "step " << i + 1;
    }
  }
}

TEST(RankLocalTest, WhenTheServiceIsSlowTheRanksRunAheadAsFarAsTheLagAllowsAndThenWait) {
  const v1::JobSpec spec = MakeSpec({.job = {.pipeline = 2, .steps = 8}, .lag = 3});
  auto service = FakeStateService::Create(spec, 2);
  service->FailCommits(1'000'000'000);
  ReportLog log;
  Metrics metrics("worker");
  WorkerMetrics worker_metrics(metrics);
  TestEpoch epoch({.spec = spec, .service = service, .log = &log, .metrics = &worker_metrics});
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  // Steps 1 to 3 are in the queue, step 4 has its gradients and waits to be.
  while (epoch.rank(1).cursor().step() < 4 ||
         epoch.rank(1).cursor().instruction().find(kMirrorActivity) == std::string::npos) {
    ASSERT_LT(absl::Now(), deadline) << epoch.rank(1).cursor().DebugString();
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(epoch.rank(1).cursor().step(), 4u);
  EXPECT_EQ(service->committed_step(), 0u);
  EXPECT_EQ(log.Count(Kind::kStep), 0);
  EXPECT_NE(metrics.ExportText().find("penstock_mirror_lag_steps 3"), std::string::npos);
  service->FailCommits(0);
  ASSERT_TRUE(epoch.WaitFinished());
  ASSERT_TRUE(epoch.WaitIdle());
  epoch.StopAll();
  EXPECT_EQ(log.Count(Kind::kStep), 8);
  EXPECT_EQ(service->committed_step(), 8u);
  EXPECT_NE(metrics.ExportText().find("penstock_mirror_lag_steps 0"), std::string::npos);
}

TEST(RankLocalTest, StoppedWhileItWaitsForTheServiceItEnds) {
  const v1::JobSpec spec = MakeSpec({.job = {.data = 2, .steps = 8}, .lag = 1});
  auto service = FakeStateService::Create(spec, 2);
  service->FailCommits(1'000'000'000);
  ReportLog log;
  TestEpoch epoch({.spec = spec, .service = service, .log = &log});
  ASSERT_TRUE(log.WaitForCount(Kind::kReady, 2));
  epoch.StopAll();
  ExpectNoPermanentFailure(log);
}

void ExpectANewEpochToGoOnWithTheSameBits(v1::TrainingSpec::Precision precision) {
  const TinyJob job{.pipeline = 2, .data = 2, .steps = 6};
  const Outcome reference = Train({.job = job, .placement = v1::ZeroSpec::PLACEMENT_SERVICE, .precision = precision});
  for (const auto mirror : {v1::ZeroSpec::MIRROR_ON, v1::ZeroSpec::MIRROR_OFF}) {
    Placed placed{
        .job = job, .mirror = mirror, .lag = mirror == v1::ZeroSpec::MIRROR_ON ? 2 : 0, .precision = precision};
    v1::JobSpec spec = MakeSpec(placed);
    spec.mutable_training()->set_digest_every_steps(2);
    auto service = FakeStateService::Create(spec, 2);
    ReportLog log;
    {
      TestEpoch first({.spec = spec, .service = service, .epoch = 1, .log = &log});
      ASSERT_TRUE(log.WaitForCount(Kind::kStep, 3));
      first.StopAll();
    }
    service->Seal(2);
    log.Clear();
    const uint64_t start = service->committed_step();
    TestEpoch second({.spec = spec, .service = service, .epoch = 2, .start_step = start, .log = &log});
    ASSERT_TRUE(second.WaitFinished());
    second.StopAll();
    const std::vector<float> weights = service->weights();
    EXPECT_EQ(std::memcmp(weights.data(), reference.weights.data(), weights.size() * sizeof(float)), 0);
    EXPECT_EQ(log.Count(Kind::kStep), static_cast<int>(6 - start));
  }
}

TEST(RankLocalTest, ANewEpochGoesOnFromTheMirroredStepWithTheSameBits) {
  ExpectANewEpochToGoOnWithTheSameBits(v1::TrainingSpec::PRECISION_FP32);
}
// The master weights are the service's again, not the roundings.
TEST(RankLocalTest, ANewEpochGoesOnFromTheMirroredStepWithTheSameBitsInBf16) {
  ExpectANewEpochToGoOnWithTheSameBits(v1::TrainingSpec::PRECISION_BF16);
}

TEST(RankLocalTest, AServiceThatReplaysOtherNumbersFailsTheJobForGood) {
  const v1::JobSpec spec = MakeSpec({.job = {.steps = 3}});
  auto service = FakeStateService::Create(spec, 1);
  service->FlipGradients();
  ReportLog log;
  TestEpoch epoch({.spec = spec, .service = service, .log = &log});
  ASSERT_TRUE(log.WaitForCount(Kind::kFailed, 1));
  epoch.StopAll();
  for (const v1::MemberReport& report : log.All()) {
    if (!report.has_failed()) continue;
    EXPECT_TRUE(report.failed().permanent());
    EXPECT_NE(report.failed().message().find("copies would part"), std::string::npos) << report.failed().message();
  }
}

TEST(RankLocalTest, ANormThatIsNotFiniteFailsTheJobForGood) {
  const v1::JobSpec spec = MakeSpec({.job = {.pipeline = 2, .data = 2, .steps = 3}});
  auto service = FakeStateService::Create(spec, 2);
  service->Poison(spec.model().vocab_size() * 64 + 5, std::numeric_limits<float>::infinity());
  ReportLog log;
  TestEpoch epoch({.spec = spec, .service = service, .log = &log});
  ASSERT_TRUE(log.WaitFor([](const std::vector<v1::MemberReport>& reports) {
    for (const v1::MemberReport& report : reports) {
      if (report.has_failed() && report.failed().permanent()) return true;
    }
    return false;
  }));
  epoch.StopAll();
  EXPECT_EQ(service->committed_step(), 0u);
}

}  // namespace
}  // namespace penstock
