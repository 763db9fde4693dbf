#include "services/checkpoint/digest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "core/model/parameter_table.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

std::vector<float> Counting(size_t count, float first) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

TEST(DigestTest, IsXxh3OfTheLittleEndianBytes) {
  // `printf '\0\0\200\077\0\0\0\100' | xxhsum -H2`: of 1.0f, 2.0f.
  const std::vector<float> values = {1.0f, 2.0f};
  PieceDigests digests = DigestPiece(values, values, values);
  EXPECT_EQ(ToHex(digests).substr(0, 32), "4533ce61c4655ba3c3e077b25dd1d769");
  // `printf '' | xxhsum -H2`.
  EXPECT_EQ(ToHex(DigestPiece({}, {}, {})).substr(0, 32), "99aa06d3014798d86001c324468d497f");
}

TEST(DigestTest, ShardingDoesNotShow) {
  const int64_t size = 3 * kPieceElements + 77;
  const auto w = Counting(size, 1), m = Counting(size, 0.5f), v = Counting(size, 0.25f);
  const auto part = [&](ElementRange range) {
    const auto cut = [&](const std::vector<float>& all) {
      return std::span(all).subspan(static_cast<size_t>(range.begin), static_cast<size_t>(range.size()));
    };
    return DigestPieces(range, cut(w), cut(m), cut(v));
  };
  const auto whole = OrderPieces(part({0, size}), size);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->size(), 4u);
  // Two shards, the second one's answer first.
  std::vector<v1::PieceDigest> two = part({kPieceElements, size});
  for (const auto& piece : part({0, kPieceElements})) two.push_back(piece);
  EXPECT_EQ(*OrderPieces(two, size), *whole);
  EXPECT_EQ(CombineDigest(*whole, 7, 224), CombineDigest(*OrderPieces(two, size), 7, 224));
}

TEST(DigestTest, CombinedDigestSeesEverything) {
  const std::vector<float> one = {1}, two = {2};
  std::vector<PieceDigests> pieces = {DigestPiece(one, one, one), DigestPiece(two, one, one)};
  const std::string digest = CombineDigest(pieces, 3, 96);
  EXPECT_EQ(digest.size(), 32u);
  EXPECT_NE(CombineDigest(pieces, 4, 96), digest);
  EXPECT_NE(CombineDigest(pieces, 3, 97), digest);
  std::swap(pieces[0], pieces[1]);
  EXPECT_NE(CombineDigest(pieces, 3, 96), digest);
  // First and second moment exchanged.
  EXPECT_NE(CombineDigest(std::vector{DigestPiece(one, one, two)}, 3, 96),
            CombineDigest(std::vector{DigestPiece(one, two, one)}, 3, 96));
}

TEST(DigestTest, BadAnswersOfShardsAreRefusedByPiece) {
  const int64_t size = 2 * kPieceElements;
  const std::vector<float> one = {1}, two = {2};
  const v1::PieceDigest p0 = ToProto(0, DigestPiece(one, one, one)), p1 = ToProto(1, DigestPiece(two, one, one));
  const auto error = [&](std::vector<v1::PieceDigest> pieces) {
    return std::string(OrderPieces(pieces, size).status().message());
  };
  EXPECT_EQ(error({p1, p0}), "");
  EXPECT_EQ(error({p1, p0, p1}), "");
  EXPECT_THAT(error({p0}), HasSubstr("the digest of piece 1 of 2 is missing"));
  EXPECT_THAT(error({p0, p1, ToProto(1, DigestPiece(one, one, one))}), HasSubstr("two different digests of piece 1"));
  EXPECT_THAT(error({p0, p1, ToProto(2, DigestPiece(one, one, one))}), HasSubstr("there are 2 pieces"));
  v1::PieceDigest cut = p1;
  cut.mutable_digests()->pop_back();
  EXPECT_THAT(error({p0, cut}), HasSubstr("have 47 bytes"));
}

TEST(DigestTest, HexGoesBothWays) {
  const std::vector<float> one = {1}, two = {2};
  const PieceDigests digests = DigestPiece(one, two, {});
  EXPECT_EQ(*PieceDigestsFromHex(ToHex(digests)), digests);
  EXPECT_FALSE(PieceDigestsFromHex("").ok());
  EXPECT_FALSE(PieceDigestsFromHex(ToHex(digests).substr(1)).ok());
  EXPECT_FALSE(PieceDigestsFromHex(std::string(96, 'g')).ok());
}

}  // namespace
}  // namespace penstock
