#include "services/client/plan_output.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

namespace penstock {
namespace {

// As in a job file.
std::string DeviceName(const v1::JobSpec& spec) {
  return absl::AsciiStrToLower(absl::StripPrefix(v1::ParallelSpec::Device_Name(spec.parallel().device()), "DEVICE_"));
}
std::string PlacementName(const v1::JobSpec& spec) {
  return absl::AsciiStrToLower(
      absl::StripPrefix(v1::ZeroSpec::Placement_Name(spec.parallel().zero().placement()), "PLACEMENT_"));
}

// "1f1b", as in a job file.
std::string ScheduleName(v1::ParallelSpec::Schedule schedule) {
  return absl::AsciiStrToLower(absl::StripPrefix(v1::ParallelSpec::Schedule_Name(schedule), "SCHEDULE_"));
}

Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json StagesJson(const v1::MeshPlan& plan) {
  Json stages = Json::array();
  for (int i = 0; i < plan.stages_size(); ++i) {
    const v1::StagePlan& stage = plan.stages(i);
    stages.push_back({{"stage", i},
                      {"first_layer", stage.first_layer()},
                      {"layers", stage.layers()},
                      {"blocks", std::vector<std::string>(stage.blocks().begin(), stage.blocks().end())},
                      {"forward_seconds", Number(stage.forward_seconds())},
                      {"backward_seconds", Number(stage.backward_seconds())}});
  }
  return stages;
}

Json WorkersJson(const v1::MeshPlan& plan) {
  Json workers = Json::array();
  for (const v1::RankPlanBytes& rank : plan.ranks()) {
    Json bytes = Json::object();
    for (const v1::RankPlanBytes::ClassBytes& each : rank.classes()) bytes[each.memory_class()] = each.bytes();
    bytes["total"] = rank.total_bytes();
    workers.push_back({{"rank", rank.rank()},
                       {"worker", rank.worker_id()},
                       {"stage", rank.stage()},
                       {"data_rank", rank.data_rank()},
                       {"tensor_rank", rank.tensor_rank()},
                       {"bytes", std::move(bytes)},
                       {"host_bytes", rank.host_bytes()},
                       {"available_bytes", rank.available_bytes() > 0 ? Json(rank.available_bytes()) : Json(nullptr)}});
  }
  return workers;
}

Json MeshPlanJson(const v1::MeshPlan& plan, bool with_workers) {
  Json json = {
      {"mesh", {{"pipeline", plan.mesh().pipeline()}, {"data", plan.mesh().data()}, {"tensor", plan.mesh().tensor()}}},
      {"schedule", ScheduleName(plan.schedule())},
      {"micro_batch_size", plan.micro_batch_size()},
      {"micro_batches", plan.micro_batches()},
      {"step_seconds", Number(plan.step_seconds())},
      {"bubble_ratio", Number(plan.bubble_ratio())},
      {"tokens_per_second", Number(plan.tokens_per_second())},
      {"reason", plan.reason()},
      {"stages", StagesJson(plan)}};
  if (with_workers) json["workers"] = WorkersJson(plan);
  return json;
}

std::string MeshText(const v1::MeshPlan& plan) {
  return absl::StrCat("pipeline ", plan.mesh().pipeline(), " x data ", plan.mesh().data(), " x tensor ",
                      plan.mesh().tensor());
}

std::string Mebibytes(uint64_t bytes) { return FormatNumber(static_cast<double>(bytes) / (1 << 20), 1); }

std::string StagesTable(const v1::MeshPlan& plan) {
  std::vector<std::vector<std::string>> rows;
  for (int i = 0; i < plan.stages_size(); ++i) {
    const v1::StagePlan& stage = plan.stages(i);
    const std::string blocks = stage.blocks_size() <= 2
                                   ? absl::StrJoin(stage.blocks(), ", ")
                                   : absl::StrCat(stage.blocks(0), " to ", stage.blocks(stage.blocks_size() - 1));
    rows.push_back({absl::StrCat(i), absl::StrCat(stage.layers()), blocks,
                    FormatNumber(1e3 * stage.forward_seconds(), 2), FormatNumber(1e3 * stage.backward_seconds(), 2)});
  }
  return FormatTable({"STAGE", "LAYERS", "BLOCKS", "FORWARD (ms)", "BACKWARD (ms)"}, rows);
}

std::string WorkersTable(const v1::MeshPlan& plan) {
  std::vector<std::string> header = {"RANK", "WORKER", "STAGE", "DATA", "TENSOR"};
  std::vector<std::vector<std::string>> rows;
  const bool on_host =
      std::any_of(plan.ranks().begin(), plan.ranks().end(), [](const auto& rank) { return rank.host_bytes() > 0; });
  for (const v1::RankPlanBytes& rank : plan.ranks()) {
    rows.push_back({absl::StrCat(rank.rank()), rank.worker_id(), absl::StrCat(rank.stage()),
                    absl::StrCat(rank.data_rank()), absl::StrCat(rank.tensor_rank())});
    for (const v1::RankPlanBytes::ClassBytes& each : rank.classes()) {
      if (rows.size() == 1) header.push_back(absl::AsciiStrToUpper(each.memory_class()));
      rows.back().push_back(Mebibytes(each.bytes()));
    }
    rows.back().push_back(Mebibytes(rank.total_bytes()));
    if (on_host) rows.back().push_back(Mebibytes(rank.host_bytes()));
  }
  header.push_back("TOTAL (MiB)");
  // Beside what is the GPU's.
  if (on_host) header.push_back("ON HOST");
  return FormatTable(header, rows);
}

}  // namespace

Json PlanJson(const v1::PlanResponse& response, bool compared) {
  Json json = MeshPlanJson(response.plan(), /*with_workers=*/true);
  json["device"] = DeviceName(response.spec());
  json["placement"] = PlacementName(response.spec());
  json["offload"] = response.spec().parallel().zero().offload() == v1::ZeroSpec::OFFLOAD_HOST ? "host" : "none";
  json["chosen"] = response.chosen();
  if (!compared) return json;
  json["alternatives"] = Json::array();
  for (const v1::MeshPlan& plan : response.alternatives()) {
    json["alternatives"].push_back(MeshPlanJson(plan, /*with_workers=*/false));
  }
  return json;
}

std::string DescribePlan(const v1::PlanResponse& response) {
  const v1::MeshPlan& plan = response.plan();
  std::string text =
      absl::StrFormat("%s, %s, %d x micro-batch %d\n%.3g s a step, %.0f tokens/s, bubble %.0f%%\n%s\n\n",
                      MeshText(plan), ScheduleName(plan.schedule()), plan.micro_batches(), plan.micro_batch_size(),
                      plan.step_seconds(), plan.tokens_per_second(), 100 * plan.bubble_ratio(), plan.reason());
  if (!response.chosen().empty()) absl::StrAppend(&text, response.chosen(), "\n\n");
  absl::StrAppend(&text, StagesTable(plan), "\n", WorkersTable(plan));
  if (response.alternatives().empty()) return text;
  absl::StrAppend(&text, "\nOther meshes, the fastest first:\n");
  for (const v1::MeshPlan& other : response.alternatives()) {
    absl::StrAppendFormat(&text, "\n%s, %s, micro-batch %d: %.3g s a step (%+.0f%%), bubble %.0f%%\n  %s\n",
                          MeshText(other), ScheduleName(other.schedule()), other.micro_batch_size(),
                          other.step_seconds(), 100 * (other.step_seconds() / plan.step_seconds() - 1),
                          100 * other.bubble_ratio(), other.reason());
  }
  return text;
}

}  // namespace penstock
