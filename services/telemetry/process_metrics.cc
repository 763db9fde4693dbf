#include "services/telemetry/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

namespace penstock {
namespace {

// Fields of /proc/self/stat by their number in proc(5), from 3 (state) on; the name before them may hold anything.
std::vector<double> ReadStatFields() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream rest(line.substr(name_end + 1));
  rest.imbue(std::locale::classic());
  std::string state;
  rest >> state;
  std::vector<double> fields = {0, 0, 0, 0};
  for (double field; rest >> field;) fields.push_back(field);
  return fields;
}

// Seconds since the epoch at which the machine started.
std::optional<double> BootTime() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("btime ")) return std::stod(line.substr(6));
  }
  return std::nullopt;
}

std::optional<double> CountOpenFiles() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return std::nullopt;
  // Less ".", ".." and the folder's own descriptor.
  double count = -3;
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

void Add(std::vector<prometheus::MetricFamily>& families, const std::string& name, const std::string& help,
         prometheus::MetricType type, double value) {
  prometheus::ClientMetric metric;
  metric.gauge.value = value;
  metric.counter.value = value;
  families.push_back({.name = name, .help = help, .type = type, .metric = {std::move(metric)}});
}

}  // namespace

std::vector<prometheus::MetricFamily> CollectProcessMetrics() {
  using prometheus::MetricType;
  constexpr size_t kUserTicks = 14, kSystemTicks = 15, kThreads = 20, kStartTicks = 22, kResidentPages = 24;
  std::vector<prometheus::MetricFamily> families;
  const double ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  if (const std::vector<double> stat = ReadStatFields(); stat.size() > kResidentPages) {
    Add(families, "process_cpu_seconds_total", "User and system time spent by the process.", MetricType::Counter,
        (stat[kUserTicks] + stat[kSystemTicks]) / ticks_per_second);
    Add(families, "process_resident_memory_bytes", "Memory of the process that is resident.", MetricType::Gauge,
        stat[kResidentPages] * static_cast<double>(sysconf(_SC_PAGESIZE)));
    Add(families, "process_threads", "Threads of the process.", MetricType::Gauge, stat[kThreads]);
    if (const auto boot = BootTime()) {
      Add(families, "process_start_time_seconds", "When the process started, since the epoch.", MetricType::Gauge,
          *boot + stat[kStartTicks] / ticks_per_second);
    }
  }
  if (const auto open = CountOpenFiles()) {
    Add(families, "process_open_fds", "File descriptors that are open.", MetricType::Gauge, *open);
  }
  if (rlimit limit; getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    Add(families, "process_max_fds", "File descriptors that may be open.", MetricType::Gauge,
        static_cast<double>(limit.rlim_cur));
  }
  return families;
}

}  // namespace penstock
