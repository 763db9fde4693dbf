#include "services/base/log.h"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>

namespace penstock {
namespace {

constexpr std::array<std::pair<std::string_view, LogLevel>, 5> kLevels = {{{"debug", LogLevel::kDebug},
                                                                           {"info", LogLevel::kInfo},
                                                                           {"warning", LogLevel::kWarning},
                                                                           {"error", LogLevel::kError},
                                                                           {"off", LogLevel::kOff}}};

std::atomic<LogLevel> log_level{LogLevel::kInfo};

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      break;
  }
  return spdlog::level::off;
}

void SetPattern(spdlog::logger& logger, const std::string& role) {
  std::string escaped;
  for (char c : role) escaped += c == '%' ? std::string("%%") : std::string(1, c);
  logger.set_formatter(std::make_unique<spdlog::pattern_formatter>("%Y-%m-%dT%H:%M:%S.%eZ %l " + escaped + "[%P] %v",
                                                                   spdlog::pattern_time_type::utc));
}

// Never destroyed: threads may log while the process ends.
spdlog::logger& Logger() {
  static spdlog::logger* const logger = [] {
    auto* made = new spdlog::logger("penstock", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_level(spdlog::level::trace);
    SetPattern(*made, "penstock");
    return made;
  }();
  return *logger;
}

// One message stays one line, whatever came in from outside.
std::string Escape(std::string_view message) {
  std::string escaped;
  escaped.reserve(message.size());
  for (char c : message) {
    if (c == '\n') {
      escaped += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      fmt::format_to(std::back_inserter(escaped), "\\x{:02x}", static_cast<unsigned>(c));
    } else {
      escaped += c;
    }
  }
  return escaped;
}

}  // namespace

void InitLog(const std::string& role) {
  SetPattern(Logger(), role);
  const char* word = std::getenv("PENSTOCK_LOG");
  if (word == nullptr || *word == '\0') return;
  LogLevel level = LogLevel::kInfo;
  if (!ParseLogLevel(word, &level)) {
    LogWarning("PENSTOCK_LOG is '{}', but must be debug, info, warning, error or off; taking info", word);
  }
  SetLogLevel(level);
}

void SetLogLevel(LogLevel level) { log_level.store(level, std::memory_order_relaxed); }

bool ParseLogLevel(std::string_view word, LogLevel* level) {
  for (const auto& [name, value] : kLevels) {
    if (name == word) {
      *level = value;
      return true;
    }
  }
  return false;
}

bool LogEnabled(LogLevel level) {
  return level != LogLevel::kOff && level >= log_level.load(std::memory_order_relaxed);
}

void WriteLog(LogLevel level, std::string_view message) {
  if (!LogEnabled(level)) return;
  try {
    Logger().log(ToSpdlog(level), spdlog::string_view_t(Escape(message)));
  } catch (...) {
    // A log that can't be written is no reason to fail.
  }
}

void WriteLogFormatted(LogLevel level, fmt::string_view format, fmt::format_args args) {
  try {
    WriteLog(level, fmt::vformat(format, args));
  } catch (...) {
    WriteLog(level, std::string_view(format.data(), format.size()));
  }
}

}  // namespace penstock
