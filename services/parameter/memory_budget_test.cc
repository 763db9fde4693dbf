#include "services/parameter/memory_budget.h"

#include <gtest/gtest.h>

#include <utility>

namespace penstock {
namespace {

TEST(MemoryBudgetTest, CountsWhatIsHeld) {
  MemoryBudget budget(1024);
  {
    absl::StatusOr<FloatBuffer> first = budget.Allocate(16, "first");
    ASSERT_TRUE(first.ok());
    EXPECT_EQ(budget.bytes_held(), 64u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(first->span().data()) % 64, 0u);
    for (const float element : first->span()) EXPECT_EQ(element, 0.0f);
    FloatBuffer moved = *std::move(first);
    EXPECT_EQ(moved.size(), 16u);
    EXPECT_EQ(budget.bytes_held(), 64u);
  }
  EXPECT_EQ(budget.bytes_held(), 0u);
}

TEST(MemoryBudgetTest, RefusesWhatDoesNotFit) {
  MemoryBudget budget(1024);
  const absl::StatusOr<FloatBuffer> most = budget.Allocate(200, "most");
  ASSERT_TRUE(most.ok());
  const absl::Status refused = budget.Allocate(100, "the state of elements [0, 100)").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(refused.message().find("the state of elements [0, 100) needs 448 bytes"), absl::string_view::npos)
      << refused;
  EXPECT_EQ(budget.CheckRoom(192, "rest"), absl::OkStatus());
  EXPECT_EQ(budget.CheckRoom(193, "rest").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(budget.Allocate(48, "rest").ok());
}

TEST(MemoryBudgetTest, WhatTheMachineHasNotIsRefusedToo) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer ends the process where malloc gives null";
#endif
  MemoryBudget budget(0);
  EXPECT_EQ(budget.Allocate(size_t{1} << 55, "far too much").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(budget.bytes_held(), 0u);
}

TEST(MemoryBudgetTest, NothingIsFree) {
  MemoryBudget budget(1);
  absl::StatusOr<FloatBuffer> none = budget.Allocate(0, "nothing");
  ASSERT_TRUE(none.ok());
  EXPECT_TRUE(none->span().empty());
}

}  // namespace
}  // namespace penstock
