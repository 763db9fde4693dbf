#include "services/parameter/frame.h"

#include <gtest/gtest.h>

#include <random>

#include "core/base/bfloat16.h"
#include "protos/penstock/v1/parameter.pb.h"
#include "services/base/crc32c.h"
#include "services/parameter/limits.h"

namespace penstock {
namespace {

std::string Bytes(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

// `bytes` in slices that end at `cuts`.
grpc::ByteBuffer Cut(const std::string& bytes, const std::vector<size_t>& cuts = {}) {
  std::vector<grpc::Slice> slices;
  size_t begin = 0;
  for (const size_t cut : cuts) {
    slices.emplace_back(bytes.data() + begin, cut - begin);
    begin = cut;
  }
  slices.emplace_back(bytes.data() + begin, bytes.size() - begin);
  return grpc::ByteBuffer(slices.data(), slices.size());
}

std::vector<float> Elements(const Payload& payload) {
  std::vector<float> elements(payload.size() / sizeof(float));
  payload.CopyTo(0, {reinterpret_cast<uint8_t*>(elements.data()), payload.size()});
  return elements;
}

const std::vector<float> kElements = {1.5f, -2.25f, 0.0f, 3e-20f};

v1::PushChunk PushMessage() {
  v1::PushChunk message;
  message.set_job_id("job-7");
  message.set_epoch(3);
  message.set_step(400);
  message.set_begin(uint64_t{1} << 40);
  message.set_payload(std::string(reinterpret_cast<const char*>(kElements.data()), 16));
  message.set_crc32c(Crc32c({reinterpret_cast<const uint8_t*>(kElements.data()), 16}));
  return message;
}

TEST(FrameTest, ProtobufReadsWhatIsWritten) {
  v1::PushChunk push;
  ASSERT_TRUE(push.ParseFromString(Bytes(MakePushFrame("job-7", 3, 400, uint64_t{1} << 40, kElements))));
  EXPECT_EQ(push.SerializeAsString(), PushMessage().SerializeAsString());
  v1::PullChunk pull;
  ASSERT_TRUE(pull.ParseFromString(Bytes(MakePullFrame(0, kElements))));
  EXPECT_EQ(pull.begin(), 0u);
  EXPECT_EQ(pull.crc32c(), PushMessage().crc32c());
  EXPECT_EQ(pull.payload(), PushMessage().payload());
}

TEST(FrameTest, IsProtobufsVeryBytes) {
  EXPECT_EQ(Bytes(MakePushFrame("job-7", 3, 400, uint64_t{1} << 40, kElements)), PushMessage().SerializeAsString());
}

TEST(FrameTest, ReadsWhatProtobufWritesHoweverItIsSliced) {
  const std::string bytes = PushMessage().SerializeAsString();
  for (size_t first = 0; first <= bytes.size(); ++first) {
    for (size_t second = first; second <= bytes.size(); ++second) {
      const absl::StatusOr<PushFrame> frame = ParsePushFrame(Cut(bytes, {first, second}));
      ASSERT_TRUE(frame.ok()) << frame.status();
      EXPECT_EQ(frame->job_id, "job-7");
      EXPECT_EQ(frame->epoch, 3u);
      EXPECT_EQ(frame->step, 400u);
      EXPECT_EQ(frame->begin, uint64_t{1} << 40);
      EXPECT_EQ(Elements(frame->payload), kElements);
      EXPECT_EQ(CheckPayload(frame->payload, frame->begin, frame->crc32c), absl::OkStatus());
    }
  }
}

TEST(FrameTest, PartsOfAPayloadInManySlices) {
  std::vector<float> elements(1000);
  for (size_t i = 0; i < elements.size(); ++i) elements[i] = static_cast<float>(i);
  const std::string bytes = Bytes(MakePullFrame(5, elements));
  const absl::StatusOr<PullFrame> frame = ParsePullFrame(Cut(bytes, {20, 21, 22, 1001, 3000}));
  ASSERT_TRUE(frame.ok()) << frame.status();
  for (const size_t first : {0, 1, 240, 999}) {
    std::vector<float> part(std::min<size_t>(500, 1000 - first));
    frame->payload.CopyTo(first * 4, {reinterpret_cast<uint8_t*>(part.data()), part.size() * 4});
    for (size_t i = 0; i < part.size(); ++i) ASSERT_EQ(part[i], elements[first + i]);
  }
}

TEST(FrameTest, AShortFrameIsMalformedAtEveryByte) {
  const std::string bytes = PushMessage().SerializeAsString();
  int refused = 0;
  for (size_t length = 0; length < bytes.size(); ++length) {
    const absl::StatusOr<PushFrame> frame = ParsePushFrame(Cut(bytes.substr(0, length)));
    // Cut between two fields it is a message without payload; nobody takes that for a chunk.
    if (frame.ok()) {
      EXPECT_EQ(CheckPayload(frame->payload, frame->begin, frame->crc32c).code(), absl::StatusCode::kInvalidArgument);
    } else {
      EXPECT_EQ(frame.status().code(), absl::StatusCode::kInvalidArgument) << frame.status();
      ++refused;
    }
  }
  EXPECT_GT(refused, 20);
}

TEST(FrameTest, SkipsUnknownFields) {
  std::string bytes = PushMessage().SerializeAsString();
  bytes += std::string("\xA0\x06\x01", 3);               // field 100, varint
  bytes += std::string("\xA1\x06\0\0\0\0\0\0\0\0", 10);  // fixed64
  bytes += std::string("\xA2\x06\x02xy", 5);             // bytes
  bytes += std::string("\xA5\x06\0\0\0\0", 6);           // fixed32
  const absl::StatusOr<PushFrame> frame = ParsePushFrame(Cut(bytes));
  ASSERT_TRUE(frame.ok()) << frame.status();
  EXPECT_EQ(Elements(frame->payload), kElements);
}

TEST(FrameTest, RefusesWhatIsNoMessage) {
  const std::string ten_ff(10, '\xFF');
  for (const std::string& bytes :
       {std::string("\x03"), std::string("\x00", 1), std::string("\x0B"), ten_ff, "\x08" + ten_ff,
        std::string("\x7A\xFF\xFF\xFF\xFF\x0F"), std::string("\x0A\xFF\x01") + std::string(255, 'a')}) {
    EXPECT_EQ(ParsePushFrame(Cut(bytes)).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(FrameTest, RefusesChunksAboveTheLimit) {
  const std::vector<float> most(kChunkElements);
  EXPECT_TRUE(ParsePullFrame(MakePullFrame(0, most)).ok());
  const std::vector<float> more(kChunkElements + 1);
  EXPECT_EQ(ParsePullFrame(MakePullFrame(0, more)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(FrameTest, RandomBytesNeverDoHarm) {
  std::mt19937 random(5);
  const std::string good = PushMessage().SerializeAsString();
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = good;
    for (int flips = 0; flips < 3; ++flips) bytes[random() % bytes.size()] = static_cast<char>(random());
    const absl::StatusOr<PushFrame> frame = ParsePushFrame(Cut(bytes, {random() % bytes.size()}));
    if (frame.ok()) {
      EXPECT_LE(frame->payload.size(), bytes.size());
      (void)CheckPayload(frame->payload, frame->begin, frame->crc32c);
    }
  }
}

TEST(FrameTest, ChecksThePayload) {
  const absl::StatusOr<PullFrame> frame = ParsePullFrame(MakePullFrame(64, kElements));
  ASSERT_TRUE(frame.ok());
  EXPECT_EQ(CheckPayload(frame->payload, 64, frame->crc32c), absl::OkStatus());
  const absl::Status damaged = CheckPayload(frame->payload, 64, frame->crc32c ^ 1);
  EXPECT_EQ(damaged.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(damaged.message().find("element 64"), absl::string_view::npos);
  EXPECT_EQ(CheckPayload(Payload(), 0, 0).code(), absl::StatusCode::kInvalidArgument);
}

TEST(FrameTest, ARoundedPullFrameHasTwoBytesAnElement) {
  const std::vector<float> elements = {1.0F, 1.0F + 0x1p-8F, 1.0F + 0x1.01p-8F, -3.0F, 0x1p-140F};
  const absl::StatusOr<PullFrame> frame = ParsePullFrame(MakeRoundedPullFrame(7, elements));
  ASSERT_TRUE(frame.ok()) << frame.status();
  EXPECT_EQ(frame->begin, 7u);
  EXPECT_TRUE(CheckPayload(frame->payload, frame->begin, frame->crc32c, sizeof(Bfloat16)).ok());
  ASSERT_EQ(frame->payload.size(), elements.size() * sizeof(Bfloat16));
  std::vector<Bfloat16> received(elements.size());
  frame->payload.CopyTo(0, {reinterpret_cast<uint8_t*>(received.data()), frame->payload.size()});
  for (size_t i = 0; i < elements.size(); ++i) EXPECT_EQ(received[i], ToBfloat16(elements[i]));
  EXPECT_EQ(CheckPayload(frame->payload, frame->begin, frame->crc32c).code(), absl::StatusCode::kInvalidArgument)
      << "ten bytes aren't whole elements of four";
}

}  // namespace
}  // namespace penstock
