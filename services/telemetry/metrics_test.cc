#include "services/telemetry/metrics.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(MetricsTest, ExportsEveryKind) {
  Metrics metrics("worker");
  metrics.AddCounter("penstock_tokens_total", "Tokens.").Default().Increment(4096);
  metrics.AddGauge("penstock_jobs", "Jobs by state.", {"state"}).With({"RUNNING"}).Set(3);
  metrics.AddHistogram("penstock_step_seconds", "Time of a step.", {}, {0.1, 1}).Default().Observe(0.5);
  const std::string text = metrics.ExportText();
  EXPECT_THAT(text, HasSubstr("# TYPE penstock_tokens_total counter\npenstock_tokens_total 4096\n"));
  EXPECT_THAT(text, HasSubstr("penstock_jobs{state=\"RUNNING\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("penstock_step_seconds_bucket{le=\"0.1\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("penstock_step_seconds_bucket{le=\"1\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("penstock_step_seconds_bucket{le=\"+Inf\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("penstock_build_info{role=\"worker\",version=\""));
}

TEST(MetricsTest, SpeaksOfTheProcess) {
  const std::string text = Metrics("worker").ExportText();
  for (const char* name : {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds",
                           "process_max_fds", "process_threads", "process_start_time_seconds"}) {
    const size_t at = text.find(absl::StrCat("\n", name, " "));
    ASSERT_NE(at, std::string::npos) << name;
    const double value = std::atof(text.c_str() + at + 2 + std::string(name).size());
    EXPECT_GE(value, 0) << name;
    if (std::string(name) == "process_resident_memory_bytes") {
      EXPECT_GT(value, 1e6);
      EXPECT_LT(value, 1e12);
    }
    // 2020 to 2100.
    if (std::string(name) == "process_start_time_seconds") {
      EXPECT_GT(value, 1.57e9);
      EXPECT_LT(value, 4.1e9);
    }
  }
}

TEST(MetricsTest, TheSameNameIsTheSameFamily) {
  Metrics metrics("worker");
  metrics.AddCounter("penstock_tokens_total", "Tokens.").Default().Increment();
  metrics.AddCounter("penstock_tokens_total", "Tokens.").Default().Increment();
  EXPECT_THAT(metrics.ExportText(), HasSubstr("penstock_tokens_total 2\n"));
}

TEST(MetricsTest, SeriesEnd) {
  Metrics metrics("coordinator");
  GaugeFamily& steps = metrics.AddGauge("penstock_job_step", "Step of a job.", {"job"});
  steps.With({"first"}).Set(1);
  steps.With({"second"}).Set(2);
  EXPECT_TRUE(steps.Remove({"first"}));
  EXPECT_FALSE(steps.Remove({"first"}));
  EXPECT_THAT(metrics.ExportText(), Not(HasSubstr("job=\"first\"")));
  EXPECT_THAT(metrics.ExportText(), HasSubstr("job=\"second\""));
  steps.Clear();
  EXPECT_EQ(steps.size(), 0u);
  EXPECT_THAT(metrics.ExportText(), Not(HasSubstr("job=\"second\"")));
}

TEST(MetricsTest, LabelsWithoutEndDontFillTheMemory) {
  Metrics metrics("coordinator");
  CounterFamily& errors = metrics.AddCounter("penstock_errors_total", "Errors.", {"text"});
  for (size_t i = 0; i < kSeriesMax + 100; ++i) errors.With({absl::StrCat("error-", i)}).Increment();
  EXPECT_EQ(errors.size(), kSeriesMax);
  EXPECT_THAT(metrics.ExportText(), Not(HasSubstr(absl::StrCat("error-", kSeriesMax))));
}

TEST(MetricsDeathTest, NamesThatPrometheusRefusesAreBugs) {
  Metrics metrics("worker");
  EXPECT_DEATH(metrics.AddGauge("steps", "Steps."), "penstock_");
  EXPECT_DEATH(metrics.AddGauge("penstock_Steps", "Steps."), "IsWord");
  EXPECT_DEATH(metrics.AddCounter("penstock_steps", "Steps."), "_total");
  EXPECT_DEATH(metrics.AddGauge("penstock_steps_total", "Steps."), "_total");
  EXPECT_DEATH(metrics.AddGauge("penstock_steps", ""), "help");
  EXPECT_DEATH(metrics.AddGauge("penstock_steps", "Steps.", {"le"}), "label");
  metrics.AddGauge("penstock_step", "Step.");
  EXPECT_DEATH(metrics.AddHistogram("penstock_step", "Step.", {}, {1}), "== 1");
}

// Prometheus' own checker, where it is installed.
TEST(MetricsTest, PromtoolFindsNothing) {
  if (std::system("command -v promtool >/dev/null") != 0) GTEST_SKIP() << "promtool is not installed";
  Metrics metrics("worker");
  metrics.AddCounter("penstock_tokens_total", "Tokens.").Default().Increment(4096);
  metrics.AddGauge("penstock_jobs", "Jobs by state.", {"state"}).With({"a \"quoted\\\n state"}).Set(3);
  metrics.AddHistogram("penstock_step_seconds", "Time of a step.", {}, LatencyBuckets()).Default().Observe(0.5);
  FILE* promtool = popen("promtool check metrics 2>&1 >&2", "w");
  ASSERT_NE(promtool, nullptr);
  const std::string text = metrics.ExportText();
  ASSERT_EQ(std::fwrite(text.data(), 1, text.size(), promtool), text.size());
  EXPECT_EQ(pclose(promtool), 0);
}

TEST(BucketsTest, GrowByTheirFactor) {
  EXPECT_THAT(ExponentialBuckets(1, 2, 4), ::testing::ElementsAre(1, 2, 4, 8));
  EXPECT_EQ(LatencyBuckets().size(), 18u);
  EXPECT_NEAR(LatencyBuckets().back(), 131, 1);
}

}  // namespace
}  // namespace penstock
