#include "services/parameter/frame.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "absl/strings/str_cat.h"
#include "core/base/bfloat16.h"
#include "core/base/status_macros.h"
#include "services/base/crc32c.h"
#include "services/parameter/limits.h"

namespace penstock {
namespace {

// Wire types of the protobuf encoding.
constexpr uint32_t kVarint = 0;
constexpr uint32_t kFixed64 = 1;
constexpr uint32_t kBytes = 2;
constexpr uint32_t kFixed32 = 5;

constexpr uint32_t kPayloadField = 15;

absl::Status Malformed(const char* what) { return absl::InvalidArgumentError(absl::StrCat("malformed chunk: ", what)); }

// Reads on over slice boundaries.
class Cursor {
 public:
  explicit Cursor(const std::vector<grpc::Slice>& slices) : slices_(slices) { SkipEmpty(); }

  bool AtEnd() const { return slice_ == slices_.size(); }

  absl::StatusOr<uint8_t> Byte() {
    if (AtEnd()) return Malformed("it ends within a field");
    const uint8_t byte = slices_[slice_].begin()[offset_++];
    SkipEmpty();
    return byte;
  }

  absl::StatusOr<uint64_t> Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      PENSTOCK_ASSIGN_OR_RETURN(const uint8_t byte, Byte());
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    return Malformed("a number of more than ten bytes");
  }

  absl::StatusOr<uint32_t> Fixed32() {
    uint32_t value = 0;
    for (int shift = 0; shift < 32; shift += 8) {
      PENSTOCK_ASSIGN_OR_RETURN(const uint8_t byte, Byte());
      value |= static_cast<uint32_t>(byte) << shift;
    }
    return value;
  }

  // Hands the next `count` bytes to `take`, a run of one slice at a time.
  absl::Status Take(uint64_t count,
                    const std::function<void(const grpc::Slice&, std::span<const uint8_t>)>& take = nullptr) {
    while (count > 0) {
      if (AtEnd()) return Malformed("it ends within a field");
      const grpc::Slice& slice = slices_[slice_];
      const size_t run = std::min<uint64_t>(count, slice.size() - offset_);
      if (take) take(slice, {slice.begin() + offset_, run});
      offset_ += run;
      count -= run;
      SkipEmpty();
    }
    return absl::OkStatus();
  }

 private:
  void SkipEmpty() {
    while (slice_ < slices_.size() && offset_ == slices_[slice_].size()) {
      ++slice_;
      offset_ = 0;
    }
  }

  const std::vector<grpc::Slice>& slices_;
  size_t slice_ = 0;
  size_t offset_ = 0;
};

absl::Status SkipField(Cursor& cursor, uint32_t wire_type) {
  switch (wire_type) {
    case kVarint:
      return cursor.Varint().status();
    case kFixed64:
      return cursor.Take(8);
    case kFixed32:
      return cursor.Take(4);
    case kBytes: {
      PENSTOCK_ASSIGN_OR_RETURN(const uint64_t length, cursor.Varint());
      return cursor.Take(length);
    }
    default:
      return Malformed("an unknown wire type");
  }
}

absl::Status ReadString(Cursor& cursor, std::string& to) {
  PENSTOCK_ASSIGN_OR_RETURN(const uint64_t length, cursor.Varint());
  if (length > kJobIdBytesMax) return Malformed("a job id that is too long");
  to.clear();
  return cursor.Take(length, [&to](const grpc::Slice&, std::span<const uint8_t> bytes) {
    to.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
}

absl::Status ReadPayload(Cursor& cursor, Payload& to) {
  PENSTOCK_ASSIGN_OR_RETURN(const uint64_t length, cursor.Varint());
  if (length > kChunkBytesMax) return Malformed("a payload above the limit of 1 MiB");
  to = Payload();
  return cursor.Take(length,
                     [&to](const grpc::Slice& slice, std::span<const uint8_t> bytes) { to.Append(slice, bytes); });
}

absl::Status ReadNumber(Cursor& cursor, uint64_t& to) {
  PENSTOCK_ASSIGN_OR_RETURN(to, cursor.Varint());
  return absl::OkStatus();
}
absl::Status ReadFixed(Cursor& cursor, uint32_t& to) {
  PENSTOCK_ASSIGN_OR_RETURN(to, cursor.Fixed32());
  return absl::OkStatus();
}

constexpr uint64_t Tag(uint32_t field, uint32_t wire_type) { return (field << 3) | wire_type; }

absl::Status ReadField(Cursor& cursor, uint64_t tag, PushFrame& frame) {
  switch (tag) {
    case Tag(1, kBytes):
      return ReadString(cursor, frame.job_id);
    case Tag(2, kVarint):
      return ReadNumber(cursor, frame.epoch);
    case Tag(3, kVarint):
      return ReadNumber(cursor, frame.step);
    case Tag(4, kVarint):
      return ReadNumber(cursor, frame.begin);
    case Tag(5, kFixed32):
      return ReadFixed(cursor, frame.crc32c);
    case Tag(6, kVarint):
      return ReadNumber(cursor, frame.state_kind);
    case Tag(kPayloadField, kBytes):
      return ReadPayload(cursor, frame.payload);
    default:
      return SkipField(cursor, tag & 7);
  }
}
absl::Status ReadField(Cursor& cursor, uint64_t tag, PullFrame& frame) {
  switch (tag) {
    case Tag(1, kVarint):
      return ReadNumber(cursor, frame.begin);
    case Tag(2, kFixed32):
      return ReadFixed(cursor, frame.crc32c);
    case Tag(kPayloadField, kBytes):
      return ReadPayload(cursor, frame.payload);
    default:
      return SkipField(cursor, tag & 7);
  }
}

template <typename Frame>
absl::StatusOr<Frame> Parse(const grpc::ByteBuffer& buffer) {
  if (buffer.Valid() && buffer.Length() > kChunkBytesMax + kChunkHeaderBytesMax) {
    return Malformed("longer than a chunk may be");
  }
  std::vector<grpc::Slice> slices;
  if (!buffer.Dump(&slices).ok()) return Malformed("its bytes can't be read");
  Frame frame;
  Cursor cursor(slices);
  while (!cursor.AtEnd()) {
    PENSTOCK_ASSIGN_OR_RETURN(const uint64_t tag, cursor.Varint());
    if (tag < 8 || tag > UINT32_MAX) return Malformed("an impossible field number");
    PENSTOCK_RETURN_IF_ERROR(ReadField(cursor, tag, frame));
  }
  return frame;
}

void AppendVarint(std::string& to, uint64_t value) {
  for (; value >= 0x80; value >>= 7) to.push_back(static_cast<char>(value | 0x80));
  to.push_back(static_cast<char>(value));
}
void AppendNumber(std::string& to, uint32_t field, uint64_t value) {
  if (value == 0) return;  // proto3 leaves zeros out
  AppendVarint(to, Tag(field, kVarint));
  AppendVarint(to, value);
}

// Copies the bytes into a slice of their own, ends the header with their checksum and the payload's tag, and joins
// both.
grpc::ByteBuffer Finish(std::string header, uint32_t crc_field, std::span<const uint8_t> elements) {
  const size_t bytes = elements.size();
  grpc::Slice payload(bytes);
  const uint32_t crc = CopyWithCrc32c(elements, const_cast<uint8_t*>(payload.begin()));
  AppendVarint(header, Tag(crc_field, kFixed32));
  for (int shift = 0; shift < 32; shift += 8) header.push_back(static_cast<char>(crc >> shift));
  AppendVarint(header, Tag(kPayloadField, kBytes));
  AppendVarint(header, bytes);
  const grpc::Slice slices[2] = {grpc::Slice(header), std::move(payload)};
  return grpc::ByteBuffer(slices, 2);
}

std::span<const uint8_t> BytesOf(std::span<const float> elements) {
  return {reinterpret_cast<const uint8_t*>(elements.data()), elements.size_bytes()};
}

}  // namespace

void Payload::Append(const grpc::Slice& slice, std::span<const uint8_t> bytes) {
  // A slice of a few bytes has them in the Slice object itself, so where they lie changes with every copy of it.
  parts_.push_back({slice, static_cast<size_t>(bytes.data() - slice.begin()), bytes.size()});
  size_ += bytes.size();
}

uint32_t Payload::Crc32c() const {
  uint32_t crc = 0;
  for (const Part& part : parts_) crc = penstock::Crc32c(crc, part.bytes());
  return crc;
}

void Payload::CopyTo(size_t offset, std::span<uint8_t> to) const {
  PENSTOCK_CHECK(offset <= size_ && to.size() <= size_ - offset);
  for (const Part& part : parts_) {
    if (to.empty()) return;
    if (offset >= part.size) {
      offset -= part.size;
      continue;
    }
    const size_t run = std::min(to.size(), part.size - offset);
    std::memcpy(to.data(), part.bytes().data() + offset, run);
    to = to.subspan(run);
    offset = 0;
  }
}

absl::StatusOr<PushFrame> ParsePushFrame(const grpc::ByteBuffer& buffer) { return Parse<PushFrame>(buffer); }
absl::StatusOr<PullFrame> ParsePullFrame(const grpc::ByteBuffer& buffer) { return Parse<PullFrame>(buffer); }

grpc::ByteBuffer MakePushFrame(const std::string& job_id, uint64_t epoch, uint64_t step, uint64_t begin,
                               std::span<const float> elements, v1::StateKind state_kind) {
  std::string header;
  if (!job_id.empty()) {
    AppendVarint(header, Tag(1, kBytes));
    AppendVarint(header, job_id.size());
    header += job_id;
    AppendNumber(header, 2, epoch);
    AppendNumber(header, 3, step);
  }
  AppendNumber(header, 4, begin);
  AppendNumber(header, 6, state_kind);
  return Finish(std::move(header), 5, BytesOf(elements));
}

grpc::ByteBuffer MakePullFrame(uint64_t begin, std::span<const float> elements) {
  std::string header;
  AppendNumber(header, 1, begin);
  return Finish(std::move(header), 2, BytesOf(elements));
}

grpc::ByteBuffer MakeRoundedPullFrame(uint64_t begin, std::span<const float> elements) {
  std::vector<Bfloat16> rounded(elements.size());
  ToBfloat16(elements, rounded);
  std::string header;
  AppendNumber(header, 1, begin);
  return Finish(std::move(header), 2,
                {reinterpret_cast<const uint8_t*>(rounded.data()), rounded.size() * sizeof(Bfloat16)});
}

absl::Status CheckPayload(const Payload& payload, uint64_t begin, uint32_t crc32c, size_t element_bytes) {
  if (payload.size() == 0 || payload.size() % element_bytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat("the chunk at element ", begin, " has ", payload.size(),
                                                   " bytes; it must have whole elements of ", element_bytes,
                                                   " bytes, one at least"));
  }
  const uint32_t actual = payload.Crc32c();
  if (actual != crc32c) {
    return absl::DataLossError(absl::StrCat("the chunk at element ", begin, " has the checksum ", absl::Hex(actual),
                                            "; its sender computed ", absl::Hex(crc32c)));
  }
  return absl::OkStatus();
}

}  // namespace penstock
