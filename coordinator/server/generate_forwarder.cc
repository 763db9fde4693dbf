#include "coordinator/server/generate_forwarder.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/sampling/generate_rules.h"
#include "services/rpc/channel.h"
#include "services/rpc/deadline.h"
#include "services/rpc/status.h"

namespace penstock {
namespace {

// One worker's answer, passed on. `began` tells whether anything was.
absl::Status PassOn(const grpc::ServerContext& from, const v1::GenerateRequest& request, const std::string& address,
                    grpc::ServerWriter<v1::GenerateResponse>& writer, bool* began) {
  const auto stub = v1::Generator::NewStub(CreateChannel(address));
  // Ends when the client's call does.
  const std::unique_ptr<grpc::ClientContext> context = grpc::ClientContext::FromServerContext(from);
  SetDeadline(*context, std::min(TimeLeft(from), kGenerationTimeMax));
  const auto reader = stub->Generate(context.get(), request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    *began = true;
    if (writer.Write(response)) continue;
    context->TryCancel();
    (void)reader->Finish();
    return absl::CancelledError("the client has gone away");
  }
  return ToAbslStatus(reader->Finish());
}

// A worker that is gone, or that was taken a moment ago: another one may do.
bool TryAnother(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsUnavailable(status) || absl::IsUnimplemented(status);
}

}  // namespace

absl::StatusOr<std::vector<v1::MemberInfo>> IdleWorkersOf(const std::vector<v1::MemberStatus>& workers) {
  std::vector<v1::MemberInfo> idle;
  std::set<std::string> jobs;
  for (const v1::MemberStatus& worker : workers) {
    if (worker.state() == "IDLE") idle.push_back(worker.info());
    if (!worker.job().empty()) jobs.insert(worker.job());
  }
  if (!idle.empty()) return idle;
  if (workers.empty()) return absl::FailedPreconditionError("no worker is registered, and a worker has to generate");
  return absl::FailedPreconditionError(absl::StrCat(
      "no worker is idle, and one has to generate",
      jobs.empty() ? "" : absl::StrCat(": they work on ", absl::StrJoin(jobs, ", ")), "; try again when one is"));
}

absl::StatusOr<std::string> GenerateForwarder::CheckpointOf(const v1::GenerateRequest& request,
                                                            const std::string& root) const {
  if (!request.checkpoint().empty()) {
    return (std::filesystem::path(root) / request.checkpoint()).lexically_normal().string();
  }
  if (request.job().empty()) return absl::InvalidArgumentError("a job or a checkpoint to generate from is missing");
  PENSTOCK_ASSIGN_OR_RETURN(const SharedStatus job, board_->Find(request.job()));
  if (!job->last_checkpoint().empty()) return job->last_checkpoint();
  return absl::FailedPreconditionError(
      absl::StrCat("job ", job->name(), " has no complete checkpoint to generate from",
                   job->spec().checkpoint().directory().empty() ? "; it has no checkpoint.directory" : " yet"));
}

absl::Status GenerateForwarder::Forward(const grpc::ServerContext& context, const v1::GenerateRequest& request,
                                        const std::vector<v1::MemberStatus>& workers, const std::string& root,
                                        grpc::ServerWriter<v1::GenerateResponse>& writer) {
  const absl::Cleanup done = [this] { --under_way_; };
  if (++under_way_ > kGenerationsMax) {
    return absl::FailedPreconditionError(
        absl::StrCat(kGenerationsMax, " texts are being written already; try again when one is done"));
  }
  PENSTOCK_RETURN_IF_ERROR(CheckGenerate(request));
  PENSTOCK_ASSIGN_OR_RETURN(const std::string checkpoint, CheckpointOf(request, root));
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<v1::MemberInfo> idle, IdleWorkersOf(workers));
  v1::GenerateRequest forwarded = request;
  forwarded.set_checkpoint(checkpoint);
  absl::Status last;
  for (const v1::MemberInfo& worker : idle) {
    bool began = false;
    last = PassOn(context, forwarded, worker.address(), writer, &began);
    if (last.ok() || began || !TryAnother(last)) return last;
  }
  return absl::FailedPreconditionError(absl::StrCat("no idle worker can generate now: ", last.message()));
}

}  // namespace penstock
