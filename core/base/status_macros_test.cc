#include "core/base/status_macros.h"

#include <memory>

#include <gtest/gtest.h>

namespace penstock {
namespace {

absl::StatusOr<std::unique_ptr<int>> MakeInt(bool fail) {
  if (fail) return absl::OutOfRangeError("too big");
  return std::make_unique<int>(7);
}

absl::StatusOr<int> Sum(const absl::Status& before, bool fail) {
  PENSTOCK_RETURN_IF_ERROR(before);
  PENSTOCK_ASSIGN_OR_RETURN(const std::unique_ptr<int> first, MakeInt(false));
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<int> second, MakeInt(fail));
  return *first + *second;
}

TEST(StatusMacrosTest, PassValuesAndErrorsOn) {
  EXPECT_EQ(*Sum(absl::OkStatus(), false), 14);
  EXPECT_EQ(Sum(absl::OkStatus(), true).status(), absl::OutOfRangeError("too big"));
  EXPECT_EQ(Sum(absl::AbortedError("stop"), true).status(), absl::AbortedError("stop"));
}

TEST(StatusMacrosDeathTest, CheckNamesFileAndCondition) {
  PENSTOCK_CHECK(1 + 1 == 2);
  EXPECT_DEATH(PENSTOCK_CHECK(1 + 1 == 3), "status_macros_test.cc:[0-9]+: check failed: 1 \\+ 1 == 3");
}

}  // namespace
}  // namespace penstock
