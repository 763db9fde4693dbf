#include "services/data/corpus.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "services/storage/file_descriptor.h"

namespace penstock {
namespace {

// What tells a file from another one, or from itself after a change.
struct FileFacts {
  int64_t bytes = 0;
  int64_t changed_seconds = 0;
  int64_t changed_nanoseconds = 0;
  friend bool operator==(const FileFacts&, const FileFacts&) = default;
};

absl::StatusOr<FileFacts> LookAt(const FileDescriptor& file, const std::string& path) {
  struct stat facts;
  if (::fstat(file.get(), &facts) != 0) return SystemError(errno, "look at it", path);
  if (S_ISDIR(facts.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is a folder; a corpus is a file"));
  }
  if (!S_ISREG(facts.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": isn't a regular file"));
  }
  return FileFacts{facts.st_size, facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec};
}

// Each byte is a token.
class ByteCorpus final : public Corpus {
 public:
  ByteCorpus(FileDescriptor file, std::string path, FileFacts facts)
      : file_(std::move(file)), path_(std::move(path)), facts_(facts) {}

  int64_t size() const override { return facts_.bytes; }
  const std::string& path() const override { return path_; }

  absl::Status Read(int64_t begin, std::span<int32_t> out) const override {
    if (begin < 0 || begin > facts_.bytes || out.size() > static_cast<uint64_t>(facts_.bytes - begin)) {
      return absl::OutOfRangeError(
          absl::StrCat(path_, ": has ", facts_.bytes, " tokens; wanted ", out.size(), " from token ", begin, " on"));
    }
    std::vector<uint8_t> bytes(out.size());
    const absl::Status read =
        ReadFully(file_, path_, static_cast<uint64_t>(begin), std::as_writable_bytes(std::span(bytes)));
    // Asked after the read, so that what was read is known to be the file that was opened.
    PENSTOCK_ASSIGN_OR_RETURN(const FileFacts now, LookAt(file_, path_));
    if (now != facts_) {
      return absl::FailedPreconditionError(
          absl::StrCat(path_, ": the corpus was changed while it is in use (", facts_.bytes, " bytes when opened, ",
                       now.bytes, " now); a job's corpus must stay as it is until the job has ended"));
    }
    PENSTOCK_RETURN_IF_ERROR(read);
    for (size_t i = 0; i < bytes.size(); ++i) out[i] = bytes[i];
    return absl::OkStatus();
  }

 private:
  const FileDescriptor file_;
  const std::string path_;
  const FileFacts facts_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Corpus>> OpenCorpus(const v1::DataSpec& data) {
  // Not blocking, so that a named pipe is refused below and not waited for.
  PENSTOCK_ASSIGN_OR_RETURN(FileDescriptor file,
                            FileDescriptor::Open(data.path(), O_RDONLY | O_NONBLOCK, "open the corpus"));
  PENSTOCK_ASSIGN_OR_RETURN(const FileFacts facts, LookAt(file, data.path()));
  switch (data.format()) {
    case v1::DataSpec::FORMAT_BYTES:
      return std::unique_ptr<Corpus>(new ByteCorpus(std::move(file), data.path(), facts));
    default:
      return absl::InvalidArgumentError(
          absl::StrCat(data.path(), ": data.format ", static_cast<int>(data.format()), " is unknown; use bytes"));
  }
}

}  // namespace penstock
