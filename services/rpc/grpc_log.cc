#include "services/rpc/grpc_log.h"

#include <grpc/support/log.h>

#include "services/base/log.h"

namespace penstock {
namespace {

void OnGrpcLog(gpr_log_func_args* args) {
  if (args->severity == GPR_LOG_SEVERITY_ERROR) {
    LogWarning("grpc: {} ({}:{})", args->message, args->file, args->line);
  } else {
    LogDebug("grpc: {} ({}:{})", args->message, args->file, args->line);
  }
}

}  // namespace

void RouteGrpcLog() {
  static const bool routed = (gpr_set_log_function(OnGrpcLog), true);
  static_cast<void>(routed);
}

}  // namespace penstock
