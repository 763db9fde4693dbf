#include "services/jobfile/yaml_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

using ::testing::HasSubstr;
using Kind = YamlNode::Kind;

YamlNodePtr Root(const std::string& text) {
  const YamlDocument document = ParseYaml(text);
  EXPECT_NE(document.root, nullptr) << document.error.line << ": " << document.error.message;
  return document.root;
}

YamlError ErrorOf(const std::string& text) {
  const YamlDocument document = ParseYaml(text);
  EXPECT_EQ(document.root, nullptr);
  EXPECT_NE(document.error.message, "");
  return document.error;
}

TEST(YamlTreeTest, KeepsLinesQuotesAndDoubles) {
  const YamlNodePtr root = Root("a: 1\nb:\n  - x\n  - \"y\"\na: ~\n");
  ASSERT_EQ(root->kind, Kind::kMap);
  ASSERT_EQ(root->entries.size(), 3u);
  EXPECT_EQ(root->entries[0].first->text, "a");
  EXPECT_EQ(root->entries[0].second->text, "1");
  EXPECT_EQ(root->entries[1].first->line, 2);
  const YamlNode& list = *root->entries[1].second;
  ASSERT_EQ(list.kind, Kind::kSequence);
  EXPECT_EQ(list.items[0]->line, 3);
  EXPECT_FALSE(list.items[0]->quoted);
  EXPECT_TRUE(list.items[1]->quoted);
  EXPECT_EQ(root->entries[2].first->text, "a");
  EXPECT_EQ(root->entries[2].second->kind, Kind::kNull);
}

TEST(YamlTreeTest, JsonIsYaml) {
  const YamlNodePtr root = Root("{\"a\": {\"b\": [1, 2.5e-3, \"x\"]}}");
  EXPECT_EQ(root->entries[0].second->entries[0].second->items[1]->text, "2.5e-3");
}

TEST(YamlTreeTest, NothingIsANullNode) {
  EXPECT_EQ(Root("")->kind, Kind::kNull);
  EXPECT_EQ(Root("# only a comment\n")->kind, Kind::kNull);
}

TEST(YamlTreeTest, AnAliasIsTheNodeItself) {
  const YamlNodePtr root = Root("a: &x {k: 1}\nb: *x\n");
  EXPECT_EQ(root->entries[0].second, root->entries[1].second);
}

TEST(YamlTreeTest, ErrorsHaveTheirLine) {
  EXPECT_EQ(ErrorOf("a: 1\nb: [1, 2\nc: 3\n").line, 3);
  EXPECT_EQ(ErrorOf("a: 1\n  b: 2\n").line, 2);
  EXPECT_EQ(ErrorOf("a: 1\nb: *nobody\n").line, 2);
  EXPECT_THAT(ErrorOf("a: !!int 1\n").message, HasSubstr("tag"));
  EXPECT_THAT(ErrorOf("a: 1\n---\nb: 2\n").message, HasSubstr("a second document"));
  EXPECT_EQ(ErrorOf("a: 1\n---\nb: 2\n").line, 3);
  EXPECT_THAT(ErrorOf("a: &x [*x]\n").message, HasSubstr("refers to the node that it is in"));
}

TEST(YamlTreeTest, OnlyUtf8) {
  EXPECT_EQ(ErrorOf("a: 1\nb: \xff\n").line, 2);
  EXPECT_EQ(ErrorOf("a: \xc0\x80\n").line, 1);
  EXPECT_EQ(ErrorOf("a: \xed\xa0\x80\n").line, 1);
  EXPECT_EQ(ErrorOf("a: \xe2\x82").line, 1);
  EXPECT_EQ(ErrorOf(std::string("a: \0b", 5)).line, 1);
  EXPECT_EQ(ErrorOf("\xff\xfe"
                    "a")
                .line,
            1);
  EXPECT_EQ(Root("a: \xe2\x82\xac\xf0\x9f\x98\x80\n")->entries[0].second->text, "\xe2\x82\xac\xf0\x9f\x98\x80");
}

// Each of these must end soon, with an error, and without the stack.
TEST(YamlTreeTest, HugeAndDeepInputIsRefused) {
  constexpr int kMany = 100'000;
  const auto repeat = [](const std::string& text, int times) {
    std::string all;
    for (int i = 0; i < times; ++i) all += text;
    return all;
  };
  ErrorOf(repeat("[", kMany));
  ErrorOf(repeat("{a: ", kMany));
  ErrorOf(repeat("- ", kMany));
  ErrorOf(repeat("? ", kMany));
  ErrorOf("[" + repeat("1,", kMany) + "1]");
  ErrorOf("{" + repeat("a: 1,", kMany) + "}");
  EXPECT_THAT(ErrorOf(repeat("[", 40) + repeat("]", 40)).message, HasSubstr("nested more than 32 deep"));
  EXPECT_EQ(Root(repeat("[", 32) + repeat("]", 32))->kind, Kind::kSequence);
}

TEST(YamlTreeTest, DepthThroughAliasesCounts) {
  std::string chain = "a0: &a0 []\n";
  for (int i = 1; i < 2000; ++i) {
    chain += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) + "]\n";
  }
  EXPECT_THAT(ErrorOf(chain).message, HasSubstr("nested more than 32 deep"));
}

TEST(YamlTreeTest, AnAliasBombStaysSmall) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 30; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int k = 0; k < 10; ++k) bomb += before + " , ";
    bomb += "x]\n";
  }
  // 10^30 values as seen from the outside; some hundred nodes here.
  EXPECT_EQ(Root(bomb)->entries.size(), 30u);
}

}  // namespace
}  // namespace penstock
