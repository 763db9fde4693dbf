#include "services/rpc/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(ParseHostPortTest, ReadsAndWritesBack) {
  for (const char* text : {"127.0.0.1:7000", "node-3.cluster:0", "[::1]:65535", "[fe80::1%eth0]:80"}) {
    const auto address = ParseHostPort(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->ToString(), text);
  }
  EXPECT_EQ(ParseHostPort("[::1]:5")->host, "::1");
  EXPECT_EQ(ParseHostPort("localhost:5")->port, 5);
}

TEST(ParseHostPortTest, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "the port is missing"},
      {"localhost", "the port is missing"},
      {"localhost:", "the port is not a number"},
      {"localhost:http", "the port is not a number"},
      {"localhost:-1", "the port is not a number"},
      {"localhost:+1", "the port is not a number"},
      {"localhost:65536", "the port is above 65535"},
      {"localhost:99999999999999999999", "the port is above 65535"},
      {":7000", "the host is missing"},
      {"[]:7000", "the host is missing"},
      {"[::1:7000", "the bracket isn't closed"},
      {"::1:7000", "an IPv6 address needs brackets"},
      {"a b:7000", "the host has a character"},
      {"http://host:7000", "an IPv6 address needs brackets"},
  };
  for (const auto& [text, why] : cases) {
    const auto address = ParseHostPort(text);
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(address.status().message()), ::testing::HasSubstr(why)) << text;
  }
}

}  // namespace
}  // namespace penstock
