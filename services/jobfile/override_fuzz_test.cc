// Any text as --set: the override is refused with reasons or taken, and a text that is being typed completes only to
// what begins with it.
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/base/status_macros.h"
#include "services/jobfile/complete_override.h"
#include "services/jobfile/job_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static constexpr char kJob[] = "name: a\nmodel: {family: gpt2, layers: 1, hidden: 8, heads: 1, seq_length: 8}\n";
  const std::string override(reinterpret_cast<const char*>(data), size);
  const auto file = penstock::ParseJobFile(kJob, "job.yaml", {&override, 1});
  if (file.ok()) {
    (void)penstock::CheckJobFile(*file);
  } else {
    PENSTOCK_CHECK(file.status().code() == absl::StatusCode::kInvalidArgument);
  }
  for (const std::string& candidate : penstock::CompleteOverride(override)) {
    PENSTOCK_CHECK(candidate.starts_with(override));
  }
  return 0;
}
