#include "services/client/printable_text.h"

#include "gtest/gtest.h"

namespace penstock {
namespace {

constexpr char kBad[] = "\xEF\xBF\xBD";

TEST(PrintableText, SoundTextPasses) {
  const std::string text = "In the beginning\n\tGrüße, 水力, \xF0\x9F\x8C\x8A";
  EXPECT_EQ(ToPrintable(text), text);
}

TEST(PrintableText, CutsDoNotMatter) {
  const std::string text = "a水\xF0\x9F\x8C\x8A\xFFz\xE6\xB0";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    PrintableText stream;
    std::string out = stream.Add(text.substr(0, cut));
    out += stream.Add(text.substr(cut));
    out += stream.Finish();
    EXPECT_EQ(out, std::string("a水\xF0\x9F\x8C\x8A") + kBad + "z" + kBad) << cut;
  }
}

TEST(PrintableText, WhatIsNotTextIsReplaced) {
  EXPECT_EQ(ToPrintable("\x80"), kBad);
  EXPECT_EQ(ToPrintable("\xC0\xAF"), std::string(kBad) + kBad) << "an overlong slash";
  EXPECT_EQ(ToPrintable("\xE6z"), std::string(kBad) + "z");
  EXPECT_EQ(ToPrintable("\xE6\xB0\xE6\xB0\xB4"), std::string(kBad) + "水");
  EXPECT_EQ(ToPrintable("\xED\xA0\x80").find('\xED'), std::string::npos) << "a surrogate";
  EXPECT_EQ(ToPrintable("\xF4\x90\x80\x80").find('\xF4'), std::string::npos) << "beyond the last code point";
}

TEST(PrintableText, ATerminalIsNotCommanded) {
  EXPECT_EQ(ToPrintable("\x1B[2J"), std::string(kBad) + "[2J");
  EXPECT_EQ(ToPrintable("\xC2\x9B"), kBad) << "the one-character form of the same";
  EXPECT_EQ(ToPrintable(std::string("\0\r\x7F", 3)), std::string(kBad) + kBad + kBad);
}

}  // namespace
}  // namespace penstock
