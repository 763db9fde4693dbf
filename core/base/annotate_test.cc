#include "core/base/annotate.h"

#include <gtest/gtest.h>

#include "absl/strings/cord.h"

namespace penstock {
namespace {

TEST(AnnotateTest, OkStaysOk) { EXPECT_TRUE(Annotate(absl::OkStatus(), "stage 2").ok()); }

TEST(AnnotateTest, PutsTheContextFirstAndKeepsCodeAndPayload) {
  absl::Status status = absl::NotFoundError("no such tensor");
  status.SetPayload("type", absl::Cord("detail"));
  const absl::Status annotated = Annotate(status, "stage 2");
  EXPECT_EQ(annotated.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(annotated.message(), "stage 2: no such tensor");
  ASSERT_TRUE(annotated.GetPayload("type").has_value());
  EXPECT_EQ(*annotated.GetPayload("type"), "detail");
}

TEST(AnnotateTest, NoColonAfterNothing) {
  EXPECT_EQ(Annotate(absl::AbortedError(""), "stage 2").message(), "stage 2");
  EXPECT_EQ(Annotate(absl::AbortedError("gone"), "").message(), "gone");
}

}  // namespace
}  // namespace penstock
