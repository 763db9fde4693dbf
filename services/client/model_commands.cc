// checkpoint diff, export and import.
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/checkpoint/diff.h"
#include "services/checkpoint/huggingface_export.h"
#include "services/checkpoint/pretrained.h"
#include "services/client/commands.h"
#include "services/client/output.h"
#include "services/storage/blobs.h"

namespace penstock {
namespace {

absl::StatusOr<std::unique_ptr<PretrainedWeights>> OpenArgument(const CommandContext& context, size_t argument) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::string path, CheckpointPath(context, context.line.arguments[argument]));
  return PretrainedWeights::Open(LocalDisk(), path);
}

// JSON has neither infinity nor NaN.
Json Finite(double value) { return std::isfinite(value) ? Json(value) : Json(); }

std::string Exponent(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3e", value);
  return text;
}

Json DifferencesJson(const PretrainedWeights& a, const PretrainedWeights& b,
                     const std::vector<TensorDifference>& differences) {
  Json tensors = Json::array();
  bool equal = true;
  for (const TensorDifference& difference : differences) {
    equal = equal && difference.different == 0;
    tensors.push_back({{"name", difference.name},
                       {"equal", difference.different == 0},
                       {"max_abs", Finite(difference.max_abs)},
                       {"relative_norm", Finite(difference.relative_norm)},
                       {"different", difference.different},
                       {"elements", difference.elements}});
  }
  return {{"a", {{"path", a.folder()}, {"step", a.step()}}},
          {"b", {{"path", b.folder()}, {"step", b.step()}}},
          {"equal", equal},
          {"tensors", tensors}};
}

void PrintDifferences(const std::vector<TensorDifference>& differences, bool all) {
  std::vector<std::vector<std::string>> rows;
  size_t equal = 0;
  for (const TensorDifference& difference : differences) {
    const bool is_equal = difference.different == 0;
    if (is_equal) ++equal;
    if (is_equal && !all) continue;
    rows.push_back({difference.name, Exponent(difference.max_abs), Exponent(difference.relative_norm),
                    absl::StrCat(difference.different, "/", difference.elements)});
  }
  if (!rows.empty()) std::fputs(FormatTable({"TENSOR", "MAX ABS", "RELATIVE NORM", "DIFFERENT"}, rows).c_str(), stdout);
  if (equal == differences.size()) {
    std::printf("the weights are equal, bit for bit, in all %zu tensors\n", equal);
  } else {
    std::printf("%zu of %zu tensors differ\n", differences.size() - equal, differences.size());
  }
}

}  // namespace

int CheckpointDiff(const CommandContext& context) {
  const auto a = OpenArgument(context, 0);
  if (!a.ok()) return Fail(a.status());
  const auto b = OpenArgument(context, 1);
  if (!b.ok()) return Fail(b.status());
  const auto differences = DiffWeights(**a, **b);
  if (!differences.ok()) return Fail(differences.status());
  if (context.json) {
    std::printf("%s\n", DifferencesJson(**a, **b, *differences).dump(2).c_str());
  } else {
    PrintDifferences(*differences, context.line.Has("all"));
  }
  return kExitDone;
}

int CheckpointExport(const CommandContext& context) {
  const auto weights = OpenArgument(context, 0);
  if (!weights.ok()) return Fail(weights.status());
  const std::string& folder = context.line.arguments[1];
  const auto files = ExportHuggingFace(LocalDisk(), **weights, folder);
  if (!files.ok()) return Fail(files.status());
  if (context.json) {
    const Json json = {
        {"path", folder}, {"checkpoint", (*weights)->folder()}, {"step", (*weights)->step()}, {"files", *files}};
    std::printf("%s\n", json.dump(2).c_str());
    return kExitDone;
  }
  std::printf("%s is %s as a Hugging Face GPT-2: %lld parameters\n", folder.c_str(), (*weights)->folder().c_str(),
              static_cast<long long>((*weights)->table().size()));
  if (!SpeaksBytes((*weights)->spec())) {
    std::printf("Its tokens aren't bytes: copy the tokenizer's files there, too.\n");
  }
  return kExitDone;
}

int CheckpointImport(const CommandContext& context) {
  const std::string& folder = context.line.arguments[0];
  const auto imported = ImportHuggingFace(LocalDisk(), folder, context.line.arguments[1]);
  if (!imported.ok()) return Fail(imported.status());
  if (context.json) {
    const Json json = {{"path", imported->path},
                       {"step", imported->manifest.step},
                       {"elements", imported->manifest.elements},
                       {"digest", imported->manifest.digest}};
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("%s is %s: %lld parameters, digest %s\n", imported->path.c_str(), folder.c_str(),
                static_cast<long long>(imported->manifest.elements), imported->manifest.digest.c_str());
  }
  return kExitDone;
}

}  // namespace penstock
