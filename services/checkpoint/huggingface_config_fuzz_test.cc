// Any text as a Hugging Face config.json: refused with a reason, or a model that a parameter table can be made of and
// that writes and reads again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/status_macros.h"
#include "core/model/parameter_table.h"
#include "services/checkpoint/huggingface_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto model = penstock::ParseHuggingFaceConfig({reinterpret_cast<const char*>(data), size});
  if (!model.ok()) {
    PENSTOCK_CHECK(model.status().code() == absl::StatusCode::kInvalidArgument && !model.status().message().empty());
    return 0;
  }
  // A table of thousands of layers takes its time and shows nothing more.
  if (model->layers() <= 64) PENSTOCK_CHECK(penstock::ParameterTable::Create(*model).ok());
  const auto again = penstock::ParseHuggingFaceConfig(penstock::FormatHuggingFaceConfig(*model));
  PENSTOCK_CHECK(again.ok() && again->SerializeAsString() == model->SerializeAsString());
  return 0;
}
