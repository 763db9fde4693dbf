// Any bytes, in any slices, as a chunk of a push or a pull: refused, or read as protobuf reads them.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status_macros.h"
#include "protos/penstock/v1/parameter.pb.h"
#include "services/parameter/frame.h"

namespace {

// Slices of the lengths that the first bytes give.
grpc::ByteBuffer Cut(const uint8_t* data, size_t size) {
  std::vector<grpc::Slice> slices;
  size_t cuts = 0;
  while (size > 4 && slices.size() < 4) {
    const size_t length = std::min<size_t>(data[cuts++ % size], size);
    slices.emplace_back(data, length);
    data += length;
    size -= length;
    if (size == 0) break;
  }
  slices.emplace_back(data, size);
  return grpc::ByteBuffer(slices.data(), slices.size());
}

std::string Bytes(const penstock::Payload& payload) {
  std::string bytes(payload.size(), '\0');
  payload.CopyTo(0, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()});
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const grpc::ByteBuffer buffer = Cut(data, size);
  if (const auto frame = penstock::ParsePushFrame(buffer); frame.ok()) {
    (void)CheckPayload(frame->payload, frame->begin, frame->crc32c);
    penstock::v1::PushChunk chunk;
    if (chunk.ParseFromArray(data, static_cast<int>(size))) {
      PENSTOCK_CHECK(frame->job_id == chunk.job_id() && frame->epoch == chunk.epoch() && frame->step == chunk.step());
      PENSTOCK_CHECK(frame->begin == chunk.begin() && frame->crc32c == chunk.crc32c());
      PENSTOCK_CHECK(Bytes(frame->payload) == chunk.payload());
    }
  }
  if (const auto frame = penstock::ParsePullFrame(buffer); frame.ok()) {
    penstock::v1::PullChunk chunk;
    if (chunk.ParseFromArray(data, static_cast<int>(size))) {
      PENSTOCK_CHECK(frame->begin == chunk.begin() && frame->crc32c == chunk.crc32c());
      PENSTOCK_CHECK(Bytes(frame->payload) == chunk.payload());
    }
  }
  return 0;
}
