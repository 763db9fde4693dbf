#include "worker/model/memory_plan.h"

#include <cstdint>
#include <limits>

#include "gtest/gtest.h"
#include "worker/ops/cpu/cpu_backend.h"

namespace penstock {
namespace {

TEST(MemoryPlan, RegionsAreAlignedApartAndCountedByClass) {
  MemoryPlan plan;
  const RegionId a = plan.AddFloats(MemoryClass::kParameter, "a", 3);
  const RegionId empty = plan.Add(MemoryClass::kGradient, "empty", 0);
  const RegionId b = plan.Add(MemoryClass::kActivation, "b", 65);
  const RegionId c = plan.AddFloats(MemoryClass::kActivation, "c", 16);
  EXPECT_EQ(plan.BytesOf(MemoryClass::kParameter), 64);
  EXPECT_EQ(plan.BytesOf(MemoryClass::kGradient), 0);
  EXPECT_EQ(plan.BytesOf(MemoryClass::kActivation), 192);
  EXPECT_EQ(plan.total_bytes(), 256);

  const auto backend = CreateCpuBackend({.threads = 1}).value();
  const Arena arena = Arena::Allocate(plan, backend.get()).value();
  EXPECT_EQ(arena.Floats(a).size(), 3u);
  EXPECT_TRUE(arena.Bytes(empty).empty());
  EXPECT_EQ(arena.Bytes(b).size(), 65u);
  EXPECT_EQ(arena.Floats(c).size(), 16u);
  for (const RegionId region : {a, b, c}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(arena.Bytes(region).data()) % kRegionAlignment, 0u);
    for (const std::byte byte : arena.Bytes(region)) EXPECT_EQ(byte, std::byte{0});
  }
  EXPECT_GE(arena.Bytes(b).data(), arena.Bytes(a).data() + arena.Bytes(a).size());
  EXPECT_GE(arena.Bytes(c).data(), arena.Bytes(b).data() + arena.Bytes(b).size());
}

TEST(MemoryPlan, DescribesItselfByClass) {
  MemoryPlan plan;
  plan.Add(MemoryClass::kParameter, "w", 3 << 20);
  plan.Add(MemoryClass::kWorkspace, "s", 1 << 19);
  EXPECT_EQ(plan.Describe(),
            "3.5 MiB: parameter 3.0, gradient 0.0, optimizer 0.0, activation 0.0, communication 0.0, workspace 0.5");
}

TEST(MemoryPlan, WhatDoesNotFitIsRefusedWithThePlan) {
  MemoryPlan plan;
  plan.Add(MemoryClass::kParameter, "w", int64_t{1} << 50);
  const auto backend = CreateCpuBackend({.threads = 1}).value();
  const auto arena = Arena::Allocate(plan, backend.get());
  ASSERT_EQ(arena.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(arena.status().message().find("the plan wants 1073741824.0 MiB: parameter"), absl::string_view::npos)
      << arena.status();
}

}  // namespace
}  // namespace penstock
