#include "coordinator/membership/refused.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "services/rpc/listener.h"

namespace penstock {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(1);

TEST(ConnectionRefusedTest, OnlyWhereNobodyListensAnyMore) {
  const auto socket = OpenListener({"127.0.0.1", 0});
  ASSERT_TRUE(socket.ok()) << socket.status();
  const std::string address = absl::StrCat("127.0.0.1:", *BoundPort(*socket));
  // Nobody accepts, as in a process that is paused: it isn't gone.
  EXPECT_FALSE(ConnectionRefused(address, kLimit));
  close(*socket);
  EXPECT_TRUE(ConnectionRefused(address, kLimit));
}

TEST(ConnectionRefusedTest, WhatCannotBeAskedIsNotGone) {
  EXPECT_FALSE(ConnectionRefused("", kLimit));
  EXPECT_FALSE(ConnectionRefused("no-port", kLimit));
  EXPECT_FALSE(ConnectionRefused("host.invalid:1", kLimit));
  // An address for documentation: nobody answers at all.
  EXPECT_FALSE(ConnectionRefused("192.0.2.1:1", absl::Milliseconds(20)));
}

}  // namespace
}  // namespace penstock
