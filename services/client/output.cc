#include "services/client/output.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "google/protobuf/util/time_util.h"
#include "services/membership/device_info.h"

namespace penstock {
namespace {

// JSON has no NaN and no infinity.
Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
Json OptionalNumber(bool present, double value) { return present ? Number(value) : Json(nullptr); }
Json OptionalText(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json MeshJson(const v1::MeshDegrees& mesh) {
  return {{"pipeline", mesh.pipeline()}, {"data", mesh.data()}, {"tensor", mesh.tensor()}};
}

Json TimeJson(bool present, const google::protobuf::Timestamp& time) {
  return present ? Json(google::protobuf::util::TimeUtil::ToString(time)) : Json(nullptr);
}

// "local, mirrored at most 1 step behind, on GPUs": who updates the weights. Empty where the job isn't known.
std::string OptimizerText(const v1::JobSpec& spec) {
  const v1::ZeroSpec& zero = spec.parallel().zero();
  std::string text;
  switch (zero.placement()) {
    case v1::ZeroSpec::PLACEMENT_SERVICE:
      text = "placement service";
      break;
    case v1::ZeroSpec::PLACEMENT_LOCAL:
      text = zero.mirror() == v1::ZeroSpec::MIRROR_OFF
                 ? "placement local, without a mirror"
                 : absl::StrCat("placement local, mirrored at most ", zero.mirror_lag(),
                                zero.mirror_lag() == 1 ? " step behind" : " steps behind");
      break;
    default:
      return text;
  }
  if (spec.parallel().device() != v1::ParallelSpec::DEVICE_CUDA) return text;
  return absl::StrCat(text, zero.offload() == v1::ZeroSpec::OFFLOAD_HOST ? ", on the hosts of GPUs" : ", on GPUs");
}

constexpr int kBarWidth = 20;

std::string Bar(uint64_t step, uint64_t steps) {
  const int filled = steps == 0 ? 0 : static_cast<int>(kBarWidth * std::min(step, steps) / steps);
  return absl::StrCat("[", std::string(filled, '#'), std::string(kBarWidth - filled, '.'), "]");
}

}  // namespace

std::string JobStateName(v1::JobState state) {
  return std::string(absl::StripPrefix(v1::JobState_Name(state), "JOB_STATE_"));
}

Json JobJson(const v1::JobStatus& job) {
  return {{"name", job.name()},
          {"id", job.id()},
          {"state", JobStateName(job.state())},
          {"step", job.step()},
          {"steps", job.steps()},
          {"loss", OptionalNumber(job.has_loss(), job.loss())},
          {"validation_loss", OptionalNumber(job.has_validation_loss(), job.validation_loss())},
          {"tokens_per_second", Number(job.tokens_per_second())},
          {"step_seconds", Number(job.step_seconds())},
          {"predicted_step_seconds", OptionalNumber(job.predicted_step_seconds() > 0, job.predicted_step_seconds())},
          {"epoch", job.epoch()},
          {"recoveries", job.recoveries()},
          {"samples_consumed", job.samples_consumed()},
          {"samples_repeated", job.samples_repeated()},
          {"samples_skipped", job.samples_skipped()},
          {"mesh", MeshJson(job.mesh())},
          {"digest", OptionalText(job.digest())},
          {"digest_step", job.digest_step()},
          {"last_checkpoint", OptionalText(job.last_checkpoint())},
          {"submitted_at", TimeJson(job.has_submitted_at(), job.submitted_at())},
          {"ended_at", TimeJson(job.has_ended_at(), job.ended_at())},
          {"message", job.message()}};
}

Json StepJson(const v1::StepRecord& record) {
  return {{"step", record.step()},
          {"loss", Number(record.loss())},
          {"gradient_norm", Number(record.gradient_norm())},
          {"learning_rate", Number(record.learning_rate())},
          {"step_seconds", Number(record.step_seconds())},
          {"tokens", record.tokens()},
          {"validation_loss", OptionalNumber(record.has_validation_loss(), record.validation_loss())}};
}

Json MemberJson(const v1::MemberStatus& member) {
  auto optional_rank = [](bool present, uint32_t rank) { return present ? Json(rank) : Json(nullptr); };
  return {{"id", member.info().id()},
          {"address", member.info().address()},
          {"device", member.info().device()},
          {"state", member.state()},
          {"job", OptionalText(member.job())},
          {"stage", optional_rank(member.has_stage(), member.stage())},
          {"data_rank", optional_rank(member.has_data_rank(), member.data_rank())},
          {"tensor_rank", optional_rank(member.has_tensor_rank(), member.tensor_rank())},
          {"pid", member.info().pid()},
          {"incarnation", member.info().incarnation()},
          {"heartbeat_age_seconds", Number(member.heartbeat_age_seconds())},
          {"device_info", member.info().has_device_info() ? DeviceJson(member.info().device_info()) : Json(nullptr)}};
}

Json EventJson(const v1::Event& event) {
  return {{"time", TimeJson(event.has_time(), event.time())},
          {"job", OptionalText(event.job())},
          {"epoch", event.epoch()},
          {"message", event.message()}};
}

std::string FormatTable(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const std::string& cell : header) widths.push_back(cell.size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size() && i < widths.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  auto append_row = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      absl::StrAppend(&line, row[i]);
      if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
    }
    absl::StrAppend(&text, line, "\n");
  };
  append_row(header);
  for (const auto& row : rows) append_row(row);
  return text;
}

std::string FormatNumber(double value, int digits) { return absl::StrFormat("%.*f", digits, value); }

std::string FormatOptional(bool present, double value, int digits) {
  return present ? FormatNumber(value, digits) : "-";
}

std::string FormatSeconds(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  const int64_t whole = static_cast<int64_t>(std::llround(seconds));
  if (whole >= 3600) return absl::StrFormat("%dh%02dm", whole / 3600, whole % 3600 / 60);
  if (whole >= 60) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  return absl::StrFormat("%ds", whole);
}

std::string ProgressLine(const v1::JobStatus& job, int width) {
  std::string line = absl::StrCat(Bar(job.step(), job.steps()), " step ", job.step(), "/", job.steps());
  if (job.has_loss()) absl::StrAppend(&line, "  loss ", FormatNumber(job.loss(), 4));
  if (job.has_validation_loss()) absl::StrAppend(&line, "  val ", FormatNumber(job.validation_loss(), 4));
  if (job.state() == v1::JOB_STATE_RUNNING) {
    if (job.tokens_per_second() > 0)
      absl::StrAppend(&line, "  ", FormatNumber(job.tokens_per_second(), 0), " tokens/s");
    if (job.step_seconds() > 0) {
      absl::StrAppend(&line, "  ", FormatSeconds((job.steps() - job.step()) * job.step_seconds()), " left");
    }
  } else {
    absl::StrAppend(&line, "  ", JobStateName(job.state()));
    if (!job.message().empty()) absl::StrAppend(&line, ": ", job.message());
  }
  if (width > 0 && static_cast<int>(line.size()) > width) line.resize(width);
  return line;
}

std::string DescribeJob(const v1::JobStatus& job) {
  std::string text;
  auto add = [&](const char* key, const std::string& value) {
    if (!value.empty()) absl::StrAppendFormat(&text, "%-18s%s\n", key, value);
  };
  add("name", job.name());
  add("id", job.id());
  add("state", JobStateName(job.state()));
  add("message", job.message());
  add("step", absl::StrCat(job.step(), " of ", job.steps()));
  add("loss", FormatOptional(job.has_loss(), job.loss(), 4));
  add("validation loss", FormatOptional(job.has_validation_loss(), job.validation_loss(), 4));
  add("speed", job.step_seconds() > 0 ? absl::StrCat(FormatNumber(job.tokens_per_second(), 0), " tokens/s, ",
                                                     FormatNumber(job.step_seconds(), 3), " s a step")
                                      : "");
  add("mesh", absl::StrCat("pipeline ", job.mesh().pipeline(), " x data ", job.mesh().data(), " x tensor ",
                           job.mesh().tensor()));
  add("optimizer", OptimizerText(job.spec()));
  add("epoch",
      absl::StrCat(job.epoch(), ", after ", job.recoveries(), job.recoveries() == 1 ? " recovery" : " recoveries"));
  add("samples", absl::StrCat("consumed ", job.samples_consumed(), ", repeated ", job.samples_repeated(), ", skipped ",
                              job.samples_skipped()));
  add("digest", job.digest().empty() ? "" : absl::StrCat(job.digest(), " (step ", job.digest_step(), ")"));
  add("checkpoint", job.last_checkpoint());
  return text;
}

}  // namespace penstock
