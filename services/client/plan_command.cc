// penstockctl plan: what a job would do, before it does.
#include <cstdio>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/client/commands.h"
#include "services/client/job_source.h"
#include "services/client/output.h"
#include "services/client/plan_output.h"
#include "services/jobfile/job_file.h"

namespace penstock {
namespace {

// Other meshes that --compare shows.
constexpr uint32_t kCompared = 5;

absl::StatusOr<uint32_t> CountFlag(const CommandLine& line, const std::string& name) {
  if (!line.Has(name)) return 0;
  uint32_t count = 0;
  if (!absl::SimpleAtoi(line.Flag(name), &count) || count == 0) {
    return absl::InvalidArgumentError(absl::StrCat("--", name, " '", line.Flag(name), "' isn't a number above zero"));
  }
  return count;
}

absl::Status ReadFlags(const CommandLine& line, v1::PlanRequest* request) {
  if (line.Has("compare")) request->set_alternatives(kCompared);
  PENSTOCK_ASSIGN_OR_RETURN(const uint32_t workers, CountFlag(line, "workers"));
  PENSTOCK_ASSIGN_OR_RETURN(const uint32_t per_host, CountFlag(line, "workers-per-host"));
  PENSTOCK_ASSIGN_OR_RETURN(const uint32_t threads, CountFlag(line, "worker-threads"));
  PENSTOCK_ASSIGN_OR_RETURN(const uint32_t cores, CountFlag(line, "host-cores"));
  PENSTOCK_ASSIGN_OR_RETURN(const uint32_t memory_gib, CountFlag(line, "host-memory-gib"));
  PENSTOCK_ASSIGN_OR_RETURN(const uint32_t shards, CountFlag(line, "shards"));
  for (const char* const detail : {"workers-per-host", "worker-threads", "host-cores", "host-memory-gib", "shards"}) {
    if (!line.Has(detail) || workers > 0) continue;
    return absl::InvalidArgumentError(absl::StrCat("--", detail, " needs --workers: how many there are in all"));
  }
  request->set_workers(workers);
  request->set_workers_per_host(per_host);
  request->set_worker_threads(threads);
  request->set_host_cores(cores);
  request->set_host_memory_bytes(uint64_t{memory_gib} << 30);
  request->set_shards(shards);
  return absl::OkStatus();
}

}  // namespace

int PlanJob(const CommandContext& context) {
  v1::PlanRequest request;
  if (absl::Status status = ReadFlags(context.line, &request); !status.ok()) return Fail(status);
  auto file = ReadJob(context);
  if (!file.ok()) return FailWithLines(file.status());
  *request.mutable_spec() = file->spec;
  std::vector<v1::JobViolation> violations;
  const auto response = context.client.Plan(request, &violations);
  if (!violations.empty()) return FailWithLines(ExplainViolations(*file, violations));
  if (!response.ok()) return Fail(response.status());
  if (context.json) {
    std::printf("%s\n", PlanJson(*response, context.line.Has("compare")).dump(2).c_str());
  } else {
    std::fputs(DescribePlan(*response).c_str(), stdout);
  }
  return kExitDone;
}

}  // namespace penstock
