#include "worker/ops/token_checks.h"

#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
constexpr int32_t kLeast = std::numeric_limits<int32_t>::min();

TEST(TokenChecksTest, NamesATokenOutsideTheVocabulary) {
  EXPECT_TRUE(CheckTokens(std::vector<int32_t>{0, 1, 2, 3}, 2, 4).ok());
  EXPECT_TRUE(CheckTokens({}, 2, 4).ok());
  for (const int32_t bad : {4, -1, kMost, kLeast}) {
    const absl::Status status = CheckTokens(std::vector<int32_t>{0, 1, 2, 3, bad, 0}, 3, 4);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), "token " + std::to_string(bad) +
                                    " at position 1 of sample 1 of the micro-batch is outside the vocabulary: "
                                    "expected 0 to 3");
  }
}

TEST(TokenChecksTest, NamesATargetOutsideTheVocabulary) {
  EXPECT_TRUE(CheckTargets(std::vector<int32_t>{0, kIgnoredTarget, 2}, 3).ok());
  for (const int32_t bad : {3, -2, kMost, kLeast}) {
    const absl::Status status = CheckTargets(std::vector<int32_t>{0, bad}, 3);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(),
              "target " + std::to_string(bad) + " of row 1 is outside the vocabulary: expected 0 to 2, or -1 for none");
  }
}

}  // namespace
}  // namespace penstock
