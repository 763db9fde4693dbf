#include "coordinator/membership/refused.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
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
}

TEST(ConnectionRefusedTest, WhoDoesNotAnswerIsNotGone) {
  const auto socket = OpenListener({"127.0.0.1", 0});
  ASSERT_TRUE(socket.ok()) << socket.status();
  const std::string address = absl::StrCat("127.0.0.1:", *BoundPort(*socket));
  // The queue of connections is full: further ones get no answer at all.
  ASSERT_EQ(listen(*socket, 0), 0);
  sockaddr_in listening = {};
  socklen_t size = sizeof(listening);
  ASSERT_EQ(getsockname(*socket, reinterpret_cast<sockaddr*>(&listening), &size), 0);
  const int first = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(connect(first, reinterpret_cast<const sockaddr*>(&listening), size), 0);
  EXPECT_FALSE(ConnectionRefused(address, absl::Milliseconds(20)));
  close(first);
  close(*socket);
}

}  // namespace
}  // namespace penstock
