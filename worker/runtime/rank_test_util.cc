#include "worker/runtime/rank_test_util.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"
#include "services/base/log.h"

namespace penstock {
namespace {

std::string CorpusPath() {
  static const std::string* const path = [] {
    auto* name = new std::string(absl::StrCat(testing::TempDir(), "/tiny_corpus.txt"));
    // Outside of Bazel the folder is shared, and somebody may be reading.
    const std::string own = absl::StrCat(*name, ".", getpid());
    std::ofstream file(own, std::ios::binary);
    uint32_t state = 7;
    for (int i = 0; i < 20'000; ++i) {
      state = state * 1664525u + 1013904223u;
      file.put(static_cast<char>("abcdefgh"[(state >> 24) % 8]));
    }
    file.close();
    std::filesystem::rename(own, *name);
    return name;
  }();
  return *path;
}

}  // namespace

v1::JobSpec MakeTinyJob(const TinyJob& job) {
  v1::JobSpec spec;
  spec.set_name("tiny");
  v1::ModelSpec& model = *spec.mutable_model();
  model.set_family(v1::ModelSpec::FAMILY_GPT2);
  model.set_layers(4);
  model.set_hidden(32);
  model.set_heads(2);
  model.set_seq_length(16);
  model.set_vocab_size(job.vocab_size);
  spec.mutable_data()->set_path(CorpusPath());
  spec.mutable_data()->set_format(v1::DataSpec::FORMAT_BYTES);
  v1::TrainingSpec& training = *spec.mutable_training();
  training.set_steps(job.steps);
  training.set_micro_batch_size(2);
  training.set_global_batch_size(8 * job.data);
  training.set_seed(3);
  training.set_validate_every_steps(job.validate_every);
  training.set_validation_samples(16);
  spec.mutable_optimizer()->set_learning_rate(1e-2);
  spec.mutable_parallel()->set_pipeline(job.pipeline);
  spec.mutable_parallel()->set_data(job.data);
  spec.mutable_parallel()->set_tensor(job.tensor);
  spec.mutable_parallel()->set_schedule(job.schedule);
  spec.mutable_parallel()->mutable_zero()->set_stage(job.zero);
  FillDefaults(&spec);
  const std::vector<v1::JobViolation> violations = CheckJob(spec);
  for (const v1::JobViolation& violation : violations)
    ADD_FAILURE() << violation.field() << ": " << violation.message();
  return spec;
}

void ReportLog::Add(v1::MemberReport report) {
  std::lock_guard<std::mutex> lock(mutex_);
  reports_.push_back(std::move(report));
  changed_.notify_all();
}

std::vector<v1::MemberReport> ReportLog::All() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return reports_;
}

void ReportLog::Clear() {
  std::lock_guard<std::mutex> lock(mutex_);
  reports_.clear();
  reports_.shrink_to_fit();
}

bool ReportLog::WaitFor(const std::function<bool(const std::vector<v1::MemberReport>&)>& condition,
                        absl::Duration timeout) const {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout), [&] { return condition(reports_); });
}

int ReportLog::Count(v1::MemberReport::ReportCase kind) const {
  const std::vector<v1::MemberReport> reports = All();
  return static_cast<int>(std::count_if(reports.begin(), reports.end(),
                                        [kind](const auto& report) { return report.report_case() == kind; }));
}

bool ReportLog::WaitForCount(v1::MemberReport::ReportCase kind, int count, absl::Duration timeout) const {
  return WaitFor(
      [&](const std::vector<v1::MemberReport>& reports) {
        return std::count_if(reports.begin(), reports.end(),
                             [kind](const auto& report) { return report.report_case() == kind; }) >= count;
      },
      timeout);
}

void ExpectNoPermanentFailure(const ReportLog& log) {
  for (const v1::MemberReport& report : log.All()) {
    if (report.has_failed()) {
      EXPECT_FALSE(report.failed().permanent()) << report.failed().message();
    }
  }
}

double CounterIn(const Metrics& metrics, const std::string& name) {
  const std::string text = "\n" + metrics.ExportText();
  const std::string key = absl::StrCat("\n", name, " ");
  const size_t at = text.find(key);
  double value = 0;
  if (at == std::string::npos) {
    ADD_FAILURE() << "no " << name << " in\n" << text;
    return value;
  }
  const size_t begin = at + key.size();
  EXPECT_TRUE(absl::SimpleAtod(text.substr(begin, text.find('\n', begin) - begin), &value));
  return value;
}

TestEpoch::TestEpoch(const Options& options) : options_(options) {
  SetLogLevel(LogLevel::kError);
  const int ranks = WorldSize(options.spec);
  network_ = std::make_shared<FakeNetwork>(ranks);
  runners_.resize(ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    if (std::find(options.absent.begin(), options.absent.end(), rank) != options.absent.end()) continue;
    RankRunner::Options runner;
    v1::Assignment& assignment = runner.assignment;
    assignment.set_job_id("job-1");
    assignment.set_epoch(options.epoch);
    *assignment.mutable_spec() = options.spec;
    assignment.set_rank(rank);
    assignment.set_start_step(options.start_step);
    for (int peer = 0; peer < ranks; ++peer) {
      v1::Peer& entry = *assignment.add_peers();
      entry.set_rank(peer);
      entry.set_worker_id(absl::StrCat("worker-", peer));
    }
    for (const std::string& shard : options.shards) assignment.add_shards(shard);
    runner.threads = 1;
    runner.connect = [network = network_](const RankPlan& plan) {
      return MakeFakeConnector(network, plan.rank(), {.wait_timeout = absl::Seconds(60)});
    };
    runner.state = [service = options.service, epoch = options.epoch](const RankPlan&) {
      return service->NewClient(epoch);
    };
    if (options.connect) runner.connect = options.connect;
    if (options.state) runner.state = options.state;
    runner.backend = options.backend;
    runner.connect_devices = options.connect_devices;
    runner.device_lost = options.device_lost;
    runner.report = [log = options.log](v1::MemberReport report) { log->Add(std::move(report)); };
    runner.timeline = options.timeline;
    runner.metrics = options.metrics;
    runner.hold_after_failure = options.hold_after_failure;
    runner.memory_wait = options.memory_wait;
    runners_[rank] = std::make_unique<RankRunner>(std::move(runner));
  }
}

bool TestEpoch::WaitFinished(absl::Duration timeout) {
  const bool finished = options_.log->WaitFor(
      [this](const std::vector<v1::MemberReport>& reports) {
        return std::any_of(reports.begin(), reports.end(), [this](const v1::MemberReport& report) {
          return report.has_finished() && report.epoch() == options_.epoch;
        });
      },
      timeout);
  if (finished) return true;
  for (const v1::MemberReport& report : options_.log->All()) {
    if (report.has_failed()) std::fprintf(stderr, "%s\n", report.ShortDebugString().c_str());
  }
  return false;
}

bool TestEpoch::WaitIdle(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  for (auto& runner : runners_) {
    while (runner != nullptr && runner->cursor().instruction() != kFinishedActivity) {
      if (absl::Now() > deadline) return false;
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  return true;
}

void TestEpoch::StopAll() {
  for (auto& runner : runners_) {
    if (runner != nullptr) runner->Stop("the test is over");
  }
  for (auto& runner : runners_) {
    if (runner != nullptr) {
      EXPECT_TRUE(runner->WaitEnded(absl::Seconds(10)));
    }
  }
}

}  // namespace penstock
