#include "services/jobfile/suggest.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

const std::vector<std::string> kNames = {"family", "layers", "hidden", "heads", "seq_length", "mlp_hidden", "steps"};

TEST(SuggestTest, NearNamesAreFound) {
  EXPECT_EQ(NearestName("head", kNames), "heads");
  EXPECT_EQ(NearestName("Heads", kNames), "heads");
  EXPECT_EQ(NearestName("haeds", kNames), "heads");
  EXPECT_EQ(NearestName("seq-length", kNames), "seq_length");
  EXPECT_EQ(NearestName("seqlen", kNames), "");
  EXPECT_EQ(NearestName("seq_len", kNames), "seq_length");
  EXPECT_EQ(NearestName("hiden", kNames), "hidden");
}

TEST(SuggestTest, FarNamesAreNot) {
  EXPECT_EQ(NearestName("dropout", kNames), "");
  EXPECT_EQ(NearestName("x", {"y"}), "");
  EXPECT_EQ(NearestName("", kNames), "");
  EXPECT_EQ(NearestName(std::string(100'000, 'a'), kNames), "");
  EXPECT_EQ(NearestName("heads", {}), "");
}

}  // namespace
}  // namespace penstock
