// Any text as a job file: refused with reasons, or a job that prints to a file which reads back to the same job.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/status_macros.h"
#include "google/protobuf/util/message_differencer.h"
#include "services/jobfile/job_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto file = penstock::ParseJobFile(text, "job.yaml", {});
  if (!file.ok()) {
    PENSTOCK_CHECK(file.status().code() == absl::StatusCode::kInvalidArgument);
    PENSTOCK_CHECK(!file.status().message().empty());
    return 0;
  }
  // Good or not, it must not take long or fall over.
  (void)penstock::CheckJobFile(*file);
  const auto again = penstock::ParseJobFile(penstock::FormatJob(file->spec), "job.yaml", {});
  PENSTOCK_CHECK(again.ok());
  PENSTOCK_CHECK(google::protobuf::util::MessageDifferencer::Equals(file->spec, again->spec));
  return 0;
}
