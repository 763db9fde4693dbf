#include "services/base/log.h"

#include <cstdlib>

#include "spdlog/sinks/stdout_sinks.h"

namespace penstock {

void InitLog(const std::string& role) {
  auto logger = spdlog::stderr_logger_mt(role);
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %L %n  %v");
  const char* level = std::getenv("PENSTOCK_LOG");
  logger->set_level(level == nullptr ? spdlog::level::info : spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(logger);
}

}  // namespace penstock
