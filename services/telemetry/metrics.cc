#include "services/telemetry/metrics.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/base/status_macros.h"
#include "services/base/version.h"
#include "services/telemetry/process_metrics.h"

namespace penstock {
namespace {

template <typename T>
std::unique_ptr<T> MakeSeries(const std::vector<double>& buckets) {
  if constexpr (std::is_same_v<T, Histogram>) {
    return std::make_unique<T>(buckets);
  } else {
    return std::make_unique<T>();
  }
}

bool IsWord(const std::string& word) {
  return !word.empty() && std::all_of(word.begin(), word.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

// Names and help are in the code, so a wrong one is a bug: what promtool would complain of ends the process.
void CheckFamily(const std::string& name, const std::string& help, const std::vector<std::string>& labels,
                 bool is_counter) {
  PENSTOCK_CHECK(name.starts_with("penstock_") && IsWord(name));
  PENSTOCK_CHECK(name.ends_with("_total") == is_counter);
  PENSTOCK_CHECK(!help.empty());
  for (const std::string& label : labels) {
    PENSTOCK_CHECK(IsWord(label) && label[0] >= 'a' && label != "le" && label != "quantile");
  }
}

}  // namespace

template <typename T>
MetricFamily<T>::MetricFamily(prometheus::Family<T>& family, std::vector<std::string> labels,
                              std::vector<double> buckets)
    : family_(family), labels_(std::move(labels)), buckets_(std::move(buckets)), overflow_(MakeSeries<T>(buckets_)) {}

template <typename T>
T& MetricFamily<T>::With(const std::vector<std::string>& values) {
  PENSTOCK_CHECK(values.size() == labels_.size());
  std::lock_guard lock(mutex_);
  const auto found = series_.find(values);
  if (found != series_.end()) return *found->second;
  if (series_.size() >= kSeriesMax) return *overflow_;
  prometheus::Labels labels;
  for (size_t i = 0; i < labels_.size(); ++i) labels[labels_[i]] = values[i];
  T* series = nullptr;
  if constexpr (std::is_same_v<T, Histogram>) {
    series = &family_.Add(labels, buckets_);
  } else {
    series = &family_.Add(labels);
  }
  series_.emplace(values, series);
  return *series;
}

template <typename T>
bool MetricFamily<T>::Remove(const std::vector<std::string>& values) {
  std::lock_guard lock(mutex_);
  const auto found = series_.find(values);
  if (found == series_.end()) return false;
  family_.Remove(found->second);
  series_.erase(found);
  return true;
}

template <typename T>
void MetricFamily<T>::Clear() {
  std::lock_guard lock(mutex_);
  for (const auto& [values, series] : series_) family_.Remove(series);
  series_.clear();
}

template <typename T>
size_t MetricFamily<T>::size() const {
  std::lock_guard lock(mutex_);
  return series_.size();
}

template class MetricFamily<Counter>;
template class MetricFamily<Gauge>;
template class MetricFamily<Histogram>;

Metrics::Metrics(const std::string& role) {
  AddGauge("penstock_build_info", "Version and role of the process; the value is always 1.", {"version", "role"})
      .With({kVersion, role})
      .Set(1);
}

Metrics::~Metrics() = default;

template <typename T, typename Build>
MetricFamily<T>& Metrics::Add(Families<T>& families, const std::string& name, const std::string& help,
                              std::vector<std::string> labels, std::vector<double> buckets, Build build) {
  CheckFamily(name, help, labels, std::is_same_v<T, Counter>);
  auto& family = families[name];
  if (family == nullptr) {
    // One name is one family of one kind.
    PENSTOCK_CHECK(counters_.count(name) + gauges_.count(name) + histograms_.count(name) == 1);
    prometheus::Family<T>& inner = build().Name(name).Help(help).Register(registry_);
    family.reset(new MetricFamily<T>(inner, std::move(labels), std::move(buckets)));
  } else {
    PENSTOCK_CHECK(family->labels_ == labels && family->buckets_ == buckets);
  }
  return *family;
}

CounterFamily& Metrics::AddCounter(const std::string& name, const std::string& help, std::vector<std::string> labels) {
  std::lock_guard lock(mutex_);
  return Add(counters_, name, help, std::move(labels), {}, prometheus::BuildCounter);
}

GaugeFamily& Metrics::AddGauge(const std::string& name, const std::string& help, std::vector<std::string> labels) {
  std::lock_guard lock(mutex_);
  return Add(gauges_, name, help, std::move(labels), {}, prometheus::BuildGauge);
}

HistogramFamily& Metrics::AddHistogram(const std::string& name, const std::string& help,
                                       std::vector<std::string> labels, std::vector<double> buckets) {
  PENSTOCK_CHECK(!buckets.empty() && std::is_sorted(buckets.begin(), buckets.end()));
  std::lock_guard lock(mutex_);
  return Add(histograms_, name, help, std::move(labels), std::move(buckets), prometheus::BuildHistogram);
}

std::string Metrics::ExportText() const {
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  std::vector<prometheus::MetricFamily> process = CollectProcessMetrics();
  families.insert(families.end(), std::make_move_iterator(process.begin()), std::make_move_iterator(process.end()));
  return prometheus::TextSerializer().Serialize(families);
}

std::vector<double> ExponentialBuckets(double first, double factor, int count) {
  PENSTOCK_CHECK(first > 0 && factor > 1 && count > 0);
  std::vector<double> bounds;
  for (double bound = first; count > 0; --count, bound *= factor) bounds.push_back(bound);
  return bounds;
}

std::vector<double> LatencyBuckets() { return ExponentialBuckets(0.001, 2, 18); }

}  // namespace penstock
