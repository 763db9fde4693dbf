#include <algorithm>
#include <cstdio>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "google/protobuf/util/time_util.h"
#include "services/client/commands.h"
#include "services/client/follow.h"
#include "services/client/job_source.h"
#include "services/client/output.h"
#include "services/client/plot.h"
#include "services/jobfile/job_file.h"
#include "services/membership/device_info.h"

namespace penstock {
namespace {

void Print(const Json& json) { std::printf("%s\n", json.dump(2).c_str()); }

std::string Seconds(double value) { return value > 0 ? FormatNumber(value, 3) : "-"; }

// In the legend: the job's name, with its id where the user named it by that (two runs of one name).
std::string CurveName(const v1::JobStatus& job, size_t curves, const std::string& typed) {
  if (curves == 1) return "";
  return typed == job.name() ? job.name() : absl::StrCat(job.name(), " (", typed, ")");
}

}  // namespace

int JobSubmit(const CommandContext& context) {
  auto file = ReadJob(context);
  if (!file.ok()) return FailWithLines(file.status());
  std::vector<v1::JobViolation> violations;
  auto job = context.client.SubmitJob(file->spec, &violations);
  if (!violations.empty()) return FailWithLines(ExplainViolations(*file, violations));
  if (!job.ok()) return Fail(job.status());
  if (!context.json) std::printf("%s\n", FormatJob(job->spec()).c_str());
  if (!context.line.Has("detach")) {
    std::fflush(stdout);
    return FollowJob(context, job->id());
  }
  if (context.json) {
    Print(JobJson(*job));
  } else {
    std::printf("job %s (%s) is queued; follow it with: penstockctl job watch %s\n", job->name().c_str(),
                job->id().c_str(), job->name().c_str());
  }
  return kExitDone;
}

int JobList(const CommandContext& context) {
  auto jobs = context.client.ListJobs();
  if (!jobs.ok()) return Fail(jobs.status());
  if (context.json) {
    Json array = Json::array();
    for (const v1::JobStatus& job : *jobs) array.push_back(JobJson(job));
    Print(array);
    return kExitDone;
  }
  std::vector<std::vector<std::string>> rows;
  for (const v1::JobStatus& job : *jobs) {
    rows.push_back({job.name(), job.id(), JobStateName(job.state()), absl::StrCat(job.step(), "/", job.steps()),
                    FormatOptional(job.has_loss(), job.loss(), 4),
                    absl::StrCat(job.mesh().pipeline(), "x", job.mesh().data(), "x", job.mesh().tensor()),
                    job.message()});
  }
  std::fputs(FormatTable({"NAME", "ID", "STATE", "STEP", "LOSS", "PPxDPxTP", "MESSAGE"}, rows).c_str(), stdout);
  return kExitDone;
}

int JobShow(const CommandContext& context) {
  auto job = context.client.GetJob(context.line.arguments[0]);
  if (!job.ok()) return Fail(job.status());
  if (context.line.Has("spec")) {
    std::fputs(FormatJob(job->spec()).c_str(), stdout);
  } else if (context.json) {
    Print(JobJson(*job));
  } else {
    std::fputs(DescribeJob(*job).c_str(), stdout);
  }
  return kExitDone;
}

int JobWatch(const CommandContext& context) { return FollowJob(context, context.line.arguments[0]); }

int JobHistory(const CommandContext& context) {
  auto records = context.client.GetHistory(context.line.arguments[0]);
  if (!records.ok()) return Fail(records.status());
  if (context.json) {
    Json array = Json::array();
    for (const v1::StepRecord& record : *records) array.push_back(StepJson(record));
    Print(array);
    return kExitDone;
  }
  std::vector<std::vector<std::string>> rows;
  for (const v1::StepRecord& record : *records) {
    rows.push_back({absl::StrCat(record.step()), FormatNumber(record.loss(), 4),
                    FormatOptional(record.has_validation_loss(), record.validation_loss(), 4),
                    FormatNumber(record.gradient_norm(), 4), absl::StrCat(record.learning_rate()),
                    Seconds(record.step_seconds()), absl::StrCat(record.tokens())});
  }
  std::fputs(
      FormatTable({"STEP", "LOSS", "VALIDATION", "GRADIENT NORM", "LEARNING RATE", "SECONDS", "TOKENS"}, rows).c_str(),
      stdout);
  return kExitDone;
}

int JobPlot(const CommandContext& context) {
  std::vector<PlotCurve> curves;
  std::vector<std::string> names;
  PlotOptions options;
  for (const std::string& name : context.line.arguments) {
    auto job = context.client.GetJob(name);
    if (!job.ok()) return Fail(job.status());
    auto records = context.client.GetHistory(job->id());
    if (!records.ok()) return Fail(records.status());
    options.title = absl::StrCat(job->name(), ": ", job->step(), " steps");
    names.push_back(job->name());
    curves.push_back({CurveName(*job, context.line.arguments.size(), name), std::move(*records)});
  }
  if (curves.size() > 1) options.title = absl::StrCat("Loss of ", curves.size(), " jobs");
  auto svg = PlotLossCurves(curves, options);
  if (!svg.ok()) return Fail(svg.status());
  const std::string path =
      context.line.Has("file") ? context.line.Flag("file") : absl::StrCat(absl::StrJoin(names, "-"), ".svg");
  if (path == "-") {
    std::fputs(svg->c_str(), stdout);
    return kExitDone;
  }
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << *svg;
  file.close();
  if (!file) return Fail(absl::UnavailableError(absl::StrCat("can't write ", path)));
  if (context.json) {
    Print({{"file", path}});
  } else {
    std::printf("%s\n", path.c_str());
  }
  return kExitDone;
}

int JobCancel(const CommandContext& context) {
  auto job = context.client.CancelJob(context.line.arguments[0]);
  if (!job.ok()) return Fail(job.status());
  if (context.json) {
    Print(JobJson(*job));
  } else {
    std::printf("job %s is being cancelled at step %llu\n", job->name().c_str(),
                static_cast<unsigned long long>(job->step()));
  }
  return kExitDone;
}

int JobEvents(const CommandContext& context) {
  auto events = context.client.ListEvents(context.line.arguments.empty() ? "" : context.line.arguments[0]);
  if (!events.ok()) return Fail(events.status());
  if (context.json) {
    Json array = Json::array();
    for (const v1::Event& event : *events) array.push_back(EventJson(event));
    Print(array);
    return kExitDone;
  }
  std::vector<std::vector<std::string>> rows;
  for (const v1::Event& event : *events) {
    rows.push_back({google::protobuf::util::TimeUtil::ToString(event.time()), event.job().empty() ? "-" : event.job(),
                    absl::StrCat(event.epoch()), event.message()});
  }
  std::fputs(FormatTable({"TIME", "JOB", "EPOCH", "EVENT"}, rows).c_str(), stdout);
  return kExitDone;
}

int WorkerList(const CommandContext& context) {
  auto members = context.client.ListMembers(v1::MEMBER_ROLE_WORKER);
  if (!members.ok()) return Fail(members.status());
  if (context.json) {
    Json array = Json::array();
    for (const v1::MemberStatus& member : *members) array.push_back(MemberJson(member));
    Print(array);
    return kExitDone;
  }
  auto rank = [](bool present, uint32_t value) { return present ? absl::StrCat(value) : std::string("-"); };
  std::vector<std::vector<std::string>> rows;
  for (const v1::MemberStatus& member : *members) {
    rows.push_back({member.info().id(), member.info().address(), member.info().device(), member.state(),
                    member.job().empty() ? "-" : member.job(), rank(member.has_stage(), member.stage()),
                    rank(member.has_data_rank(), member.data_rank()),
                    rank(member.has_tensor_rank(), member.tensor_rank()), absl::StrCat(member.info().pid()),
                    FormatNumber(member.heartbeat_age_seconds(), 1)});
  }
  std::fputs(FormatTable({"ID", "ADDRESS", "DEVICE", "STATE", "JOB", "STAGE", "DATA RANK", "TENSOR RANK", "PID",
                          "HEARTBEAT AGE (s)"},
                         rows)
                 .c_str(),
             stdout);
  return kExitDone;
}

int WorkerShow(const CommandContext& context) {
  auto members = context.client.ListMembers(v1::MEMBER_ROLE_WORKER);
  if (!members.ok()) return Fail(members.status());
  const std::string& id = context.line.arguments[0];
  const auto found = std::find_if(members->begin(), members->end(),
                                  [&](const v1::MemberStatus& member) { return member.info().id() == id; });
  if (found == members->end()) {
    return Fail(absl::NotFoundError(absl::StrCat("there is no worker ", id, "; `penstockctl worker list` has all")));
  }
  if (context.json) {
    Print(MemberJson(*found));
    return kExitDone;
  }
  std::vector<std::vector<std::string>> rows = {{"state", found->state()},
                                                {"job", found->job().empty() ? "-" : found->job()},
                                                {"address", found->info().address()},
                                                {"computes on", found->info().device()}};
  for (const auto& [name, value] : DescribeDevice(found->info().device_info())) rows.push_back({name, value});
  std::fputs(FormatTable({"worker", id}, rows).c_str(), stdout);
  return kExitDone;
}

}  // namespace penstock
