// PushChunk and PullChunk as raw byte buffers: the messages' wire format without a copy through protobuf.
//
// A frame is written as two slices, a small header with every field but the payload and the payload itself, which is
// the last field. It is read in the same way, straight from gRPC's slices. What protobuf writes is read too (fields in
// any order, unknown fields skipped), and what is written here protobuf reads.
//
// Thread-safe: values and free functions. A Payload shares the slices' memory; it copies nothing until asked to.
#ifndef PENSTOCK_SERVICES_PARAMETER_FRAME_H_
#define PENSTOCK_SERVICES_PARAMETER_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protos/penstock/v1/parameter.pb.h"

namespace penstock {

// Bytes that lie in one or more slices.
class Payload {
 public:
  Payload() = default;

  // Shares `slice`; `bytes` is the part of it that belongs to the payload.
  void Append(const grpc::Slice& slice, std::span<const uint8_t> bytes);
  size_t size() const { return size_; }
  uint32_t Crc32c() const;
  // Copies bytes [offset, offset + to.size()) of the payload. They must lie within it.
  void CopyTo(size_t offset, std::span<uint8_t> to) const;

 private:
  struct Part {
    grpc::Slice slice;
    size_t offset = 0;
    size_t size = 0;
    std::span<const uint8_t> bytes() const { return {slice.begin() + offset, size}; }
  };

  std::vector<Part> parts_;
  size_t size_ = 0;
};

struct PushFrame {
  std::string job_id;
  uint64_t epoch = 0;
  uint64_t step = 0;
  uint64_t begin = 0;
  uint32_t crc32c = 0;
  // A number of v1::StateKind, or one that it doesn't know.
  uint64_t state_kind = 0;
  Payload payload;
};
struct PullFrame {
  uint64_t begin = 0;
  uint32_t crc32c = 0;
  Payload payload;
};

// INVALID_ARGUMENT for bytes that aren't such a message, or exceed a limit of limits.h.
absl::StatusOr<PushFrame> ParsePushFrame(const grpc::ByteBuffer& buffer);
absl::StatusOr<PullFrame> ParsePullFrame(const grpc::ByteBuffer& buffer);

// Copies the elements into a slice of the frame's own, and checksums the copy: the sender's memory is free at once, and
// a cancelled call leaves nothing behind that still reads from it. An empty job_id leaves the first three fields out.
grpc::ByteBuffer MakePushFrame(const std::string& job_id, uint64_t epoch, uint64_t step, uint64_t begin,
                               std::span<const float> elements, v1::StateKind state_kind = v1::STATE_KIND_UNSPECIFIED);
grpc::ByteBuffer MakePullFrame(uint64_t begin, std::span<const float> elements);
// The same, rounded to bf16.
grpc::ByteBuffer MakeRoundedPullFrame(uint64_t begin, std::span<const float> elements);

// DATA_LOSS when the payload's checksum isn't the frame's; INVALID_ARGUMENT when it isn't whole elements of
// `element_bytes`, or is empty.
absl::Status CheckPayload(const Payload& payload, uint64_t begin, uint32_t crc32c,
                          size_t element_bytes = sizeof(float));

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_PARAMETER_FRAME_H_
