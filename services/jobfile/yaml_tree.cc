#include "services/jobfile/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <exception>
#include <map>
#include <optional>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

int LineOf(const YAML::Mark& mark) { return mark.line + 1; }

// Builds the tree from the parser's events. After the first error it takes no more of them.
class TreeBuilder final : public YAML::EventHandler {
 public:
  const YamlNodePtr& root() const { return root_; }
  const YamlError& error() const { return error_; }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto node = Make(mark, YamlNode::Kind::kNull);
    if (node == nullptr) return;
    // The mark of a value that isn't there is that of whatever comes next, maybe lines below.
    if (!open_.empty() && open_.back().key != nullptr) node->line = open_.back().key->line;
    Attach(node, anchor);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    const auto node = Make(mark, YamlNode::Kind::kScalar);
    if (node == nullptr || !CheckTag(mark, tag)) return;
    node->text = value;
    node->quoted = tag == "!";
    Attach(node, anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (failed()) return;
    const auto it = anchors_.find(anchor);
    if (it == anchors_.end()) return Fail(mark, "an alias refers to the node that it is in; write the value out");
    if (++nodes_ > kYamlNodesMax) return TooMany(mark);
    Attach(it->second, YAML::NullAnchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, YamlNode::Kind::kSequence);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { Close(); }

 private:
  // A map or sequence whose end has not come.
  struct OpenNode {
    std::shared_ptr<YamlNode> node;
    YAML::anchor_t anchor;
    // Of a map: the key whose value comes next.
    YamlNodePtr key;
  };

  bool failed() const { return !error_.message.empty(); }
  void Fail(const YAML::Mark& mark, const std::string& message) {
    if (!failed()) error_ = {LineOf(mark), message};
  }
  void TooMany(const YAML::Mark& mark) {
    Fail(mark, absl::StrCat("has more than ", kYamlNodesMax, " values; a job file needs some dozens"));
  }

  void TooDeep(int line) {
    if (!failed()) error_ = {line, absl::StrCat("is nested more than ", kYamlDepthMax, " deep")};
  }

  // "?" is no tag, "!" a quoted scalar; "!!int" and the like would be rules that this reader doesn't follow.
  bool CheckTag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return true;
    Fail(mark, absl::StrCat("the tag ", tag, " isn't understood; leave it out"));
    return false;
  }

  std::shared_ptr<YamlNode> Make(const YAML::Mark& mark, YamlNode::Kind kind) {
    if (failed()) return nullptr;
    if (++nodes_ > kYamlNodesMax) {
      TooMany(mark);
      return nullptr;
    }
    auto node = std::make_shared<YamlNode>();
    node->kind = kind;
    node->line = LineOf(mark);
    node->depth = kind == YamlNode::Kind::kMap || kind == YamlNode::Kind::kSequence ? 1 : 0;
    return node;
  }

  void Open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    const auto node = Make(mark, kind);
    if (node == nullptr || !CheckTag(mark, tag)) return;
    if (open_.size() == kYamlDepthMax) {
      return TooDeep(node->line);
    }
    open_.push_back({node, anchor, nullptr});
  }

  void Close() {
    if (failed()) return;
    const OpenNode closed = open_.back();
    open_.pop_back();
    Attach(closed.node, closed.anchor);
  }

  // The node is whole: it can be referred to, and goes where it belongs.
  void Attach(const YamlNodePtr& node, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) anchors_[anchor] = node;
    if (open_.empty()) {
      root_ = node;
      return;
    }
    OpenNode& parent = open_.back();
    // Through aliases a text of no depth makes a tree of any; whoever walks or frees it would run out of stack.
    parent.node->depth = std::max(parent.node->depth, node->depth + 1);
    if (parent.node->depth > kYamlDepthMax) return TooDeep(node->line);
    if (parent.node->kind == YamlNode::Kind::kSequence) {
      parent.node->items.push_back(node);
    } else if (parent.key == nullptr) {
      parent.key = node;
    } else {
      parent.node->entries.emplace_back(std::move(parent.key), node);
      parent.key = nullptr;
    }
  }

  YamlNodePtr root_;
  YamlError error_;
  std::vector<OpenNode> open_;
  std::map<YAML::anchor_t, YamlNodePtr> anchors_;
  size_t nodes_ = 0;
};

// Bytes of the UTF-8 character that starts with this byte; 0 when none does.
int CharacterBytes(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead < 0xe0) return 2;
  if (lead >= 0xe0 && lead < 0xf0) return 3;
  if (lead >= 0xf0 && lead < 0xf5) return 4;
  return 0;
}

// The first line that isn't UTF-8 text; the parser would replace its bytes without a word.
std::optional<int> FirstBadLine(std::string_view text) {
  int line = 1;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const int bytes = CharacterBytes(lead);
    if (bytes == 0 || lead == 0 || i + bytes > text.size()) return line;
    uint32_t code = bytes == 1 ? lead : lead & (0x7f >> bytes);
    for (int k = 1; k < bytes; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xc0) != 0x80) return line;
      code = code << 6 | (next & 0x3f);
    }
    // Longer than it needs to be, a surrogate, or beyond Unicode.
    if ((bytes == 3 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) ||
        (bytes == 4 && (code < 0x10000 || code > 0x10ffff))) {
      return line;
    }
    if (lead == '\n') ++line;
    i += bytes;
  }
  return std::nullopt;
}

}  // namespace

YamlDocument ParseYaml(std::string_view text) {
  if (const std::optional<int> line = FirstBadLine(text)) return {nullptr, {*line, "isn't UTF-8 text"}};
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder;
    // An empty text has no document.
    if (!parser.HandleNextDocument(builder)) {
      auto nothing = std::make_shared<YamlNode>();
      nothing->line = 1;
      return {nothing, {}};
    }
    if (!builder.error().message.empty()) return {nullptr, builder.error()};
    TreeBuilder second;
    if (parser.HandleNextDocument(second)) {
      const int line = second.root() != nullptr ? second.root()->line : 0;
      return {nullptr, {line, "a second document begins here; a file holds one job"}};
    }
    return {builder.root(), {}};
  } catch (const YAML::Exception& e) {
    return {nullptr, {LineOf(e.mark), absl::StrCat("isn't sound YAML: ", e.msg)}};
  } catch (const std::exception& e) {
    return {nullptr, {0, absl::StrCat("can't be read as YAML: ", e.what())}};
  }
}

}  // namespace penstock
