#include "services/rpc/address.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace penstock {

std::string HostPort::ToString() const {
  return absl::StrContains(host, ':') ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

absl::StatusOr<HostPort> ParseHostPort(absl::string_view text) {
  const auto wrong = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is no address: ", why, "; it must be HOST:PORT, like 127.0.0.1:7000 or [::1]:7000"));
  };
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return wrong("the port is missing");
  absl::string_view host = text.substr(0, colon);
  const absl::string_view digits = text.substr(colon + 1);
  HostPort address;
  if (digits.empty() || digits.find_first_not_of("0123456789") != absl::string_view::npos) {
    return wrong("the port is not a number");
  }
  if (!absl::SimpleAtoi(digits, &address.port) || address.port > 65535) return wrong("the port is above 65535");
  if (!host.empty() && host.front() == '[') {
    if (host.back() != ']') return wrong("the bracket isn't closed");
    host = host.substr(1, host.size() - 2);
  } else if (absl::StrContains(host, ':')) {
    return wrong("an IPv6 address needs brackets");
  }
  if (host.empty()) return wrong("the host is missing");
  if (host.find_first_of(" \t\r\n/[]") != absl::string_view::npos)
    return wrong("the host has a character that none has");
  address.host = std::string(host);
  return address;
}

}  // namespace penstock
