// The process's log: lines on standard error, each with time, level, role and pid.
//
//   InitLog("worker");
//   LogInfo("job {}: step {} of {}", name, step, steps);
//   LogWarning("the coordinator at {} is out of reach: {}", address, status);   // an absl::Status, Duration or Time
//   too
//
// The environment variable PENSTOCK_LOG sets the level: debug, info (the default), warning, error or off. A line break
// or another control character in a message is written as an escape, so that one message is one line. Never throws;
// thread-safe. Formatting is {fmt}'s, checked at compile time.
#ifndef PENSTOCK_SERVICES_BASE_LOG_H_
#define PENSTOCK_SERVICES_BASE_LOG_H_

#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace penstock {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

// Names the role in each line and takes the level from PENSTOCK_LOG. To be called once, early in main; what is logged
// before is written at level info.
void InitLog(const std::string& role);
void SetLogLevel(LogLevel level);
// False for a word that is no level: `level` is as it was.
bool ParseLogLevel(std::string_view word, LogLevel* level);

bool LogEnabled(LogLevel level);
void WriteLog(LogLevel level, std::string_view message);
void WriteLogFormatted(LogLevel level, fmt::string_view format, fmt::format_args args);

template <typename... Args>
void LogDebug(fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(LogLevel::kDebug)) WriteLogFormatted(LogLevel::kDebug, format, fmt::make_format_args(args...));
}
template <typename... Args>
void LogInfo(fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(LogLevel::kInfo)) WriteLogFormatted(LogLevel::kInfo, format, fmt::make_format_args(args...));
}
template <typename... Args>
void LogWarning(fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(LogLevel::kWarning)) WriteLogFormatted(LogLevel::kWarning, format, fmt::make_format_args(args...));
}
template <typename... Args>
void LogError(fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(LogLevel::kError)) WriteLogFormatted(LogLevel::kError, format, fmt::make_format_args(args...));
}

}  // namespace penstock

template <>
struct fmt::formatter<absl::string_view> : fmt::formatter<fmt::string_view> {
  template <typename Context>
  auto format(absl::string_view text, Context& context) const {
    return fmt::formatter<fmt::string_view>::format(fmt::string_view(text.data(), text.size()), context);
  }
};

template <>
struct fmt::formatter<absl::Status> : fmt::formatter<fmt::string_view> {
  template <typename Context>
  auto format(const absl::Status& status, Context& context) const {
    return fmt::formatter<fmt::string_view>::format(status.ToString(), context);
  }
};

template <>
struct fmt::formatter<absl::Duration> : fmt::formatter<fmt::string_view> {
  template <typename Context>
  auto format(absl::Duration duration, Context& context) const {
    return fmt::formatter<fmt::string_view>::format(absl::FormatDuration(duration), context);
  }
};

template <>
struct fmt::formatter<absl::Time> : fmt::formatter<fmt::string_view> {
  template <typename Context>
  auto format(absl::Time time, Context& context) const {
    return fmt::formatter<fmt::string_view>::format(absl::FormatTime(time), context);
  }
};

#endif  // PENSTOCK_SERVICES_BASE_LOG_H_
