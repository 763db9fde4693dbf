// The metrics of one process: families of counters, gauges and histograms named penstock_*, exported as Prometheus
// text.
//
//   Metrics metrics("worker");                                     // with penstock_build_info and process_*
//   Counter& tokens = metrics.AddCounter("penstock_worker_tokens_total", "Tokens trained on.").Default();
//   tokens.Increment(4096);
//   auto& jobs = metrics.AddGauge("penstock_jobs", "Jobs by state.", {"state"});
//   jobs.With({"RUNNING"}).Set(3);
//   metrics.AddHistogram("penstock_worker_step_seconds", "Time of a step.", {},
//   LatencyBuckets()).Default().Observe(0.2);
//
// A family has at most kSeriesMax series; With() beyond that gives one that isn't exported, so that a label which grows
// without bound can't fill the memory. A name that Prometheus would refuse is a bug and ends the process: names are
// written in the code, never taken from input. Adding a family again gives the one that is there.
//
// Thread-safe. Families and series live as long as the Metrics; a series that was removed with Remove() is gone, and
// nobody may use it after that.
#ifndef PENSTOCK_SERVICES_TELEMETRY_METRICS_H_
#define PENSTOCK_SERVICES_TELEMETRY_METRICS_H_

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "absl/base/thread_annotations.h"

namespace penstock {

using Counter = prometheus::Counter;      // Increment(), Increment(double)
using Gauge = prometheus::Gauge;          // Set(double), Increment(), Decrement()
using Histogram = prometheus::Histogram;  // Observe(double)

inline constexpr size_t kSeriesMax = 1024;

// Series of one name that differ in their labels' values.
template <typename T>
class MetricFamily {
 public:
  // The series with these label values, in the order of the family's label names. Made when it is first asked for.
  T& With(const std::vector<std::string>& values);
  // The one series of a family without labels.
  T& Default() { return With({}); }
  // Ends a series: a job that is over, say. True if it was there.
  bool Remove(const std::vector<std::string>& values);
  // Ends all of them.
  void Clear();
  size_t size() const;

 private:
  friend class Metrics;
  MetricFamily(prometheus::Family<T>& family, std::vector<std::string> labels, std::vector<double> buckets);

  prometheus::Family<T>& family_;
  const std::vector<std::string> labels_;
  const std::vector<double> buckets_;
  // What With() gives beyond kSeriesMax.
  const std::unique_ptr<T> overflow_;

  mutable std::mutex mutex_;
  std::map<std::vector<std::string>, T*> series_ ABSL_GUARDED_BY(mutex_);
};

using CounterFamily = MetricFamily<Counter>;
using GaugeFamily = MetricFamily<Gauge>;
using HistogramFamily = MetricFamily<Histogram>;

class Metrics {
 public:
  // `role` is a label of penstock_build_info: "worker".
  explicit Metrics(const std::string& role);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Names start with penstock_ and end with their base unit (_seconds, _bytes), counters with _total.
  CounterFamily& AddCounter(const std::string& name, const std::string& help, std::vector<std::string> labels = {});
  GaugeFamily& AddGauge(const std::string& name, const std::string& help, std::vector<std::string> labels = {});
  // `buckets`: upper bounds, ascending; +Inf comes by itself.
  HistogramFamily& AddHistogram(const std::string& name, const std::string& help, std::vector<std::string> labels,
                                std::vector<double> buckets);

  // Everything in Prometheus' text format.
  std::string ExportText() const;

 private:
  template <typename T>
  using Families = std::map<std::string, std::unique_ptr<MetricFamily<T>>>;

  template <typename T, typename Build>
  MetricFamily<T>& Add(Families<T>& families, const std::string& name, const std::string& help,
                       std::vector<std::string> labels, std::vector<double> buckets, Build build)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  prometheus::Registry registry_;

  mutable std::mutex mutex_;
  Families<Counter> counters_ ABSL_GUARDED_BY(mutex_);
  Families<Gauge> gauges_ ABSL_GUARDED_BY(mutex_);
  Families<Histogram> histograms_ ABSL_GUARDED_BY(mutex_);
};

// `count` bounds from `first` on, each `factor` times the one before.
std::vector<double> ExponentialBuckets(double first, double factor, int count);
// From 1 ms to 131 s, by factors of 2: steps, pushes, commits.
std::vector<double> LatencyBuckets();

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_TELEMETRY_METRICS_H_
