// A YAML document as a small tree that knows its lines, keeps doubled keys for the reader to refuse, and can't grow
// beyond its limits whatever the text is.
//
// Thread-safe: a free function and immutable nodes.
#ifndef PENSTOCK_SERVICES_JOBFILE_YAML_TREE_H_
#define PENSTOCK_SERVICES_JOBFILE_YAML_TREE_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace penstock {

inline constexpr size_t kYamlNodesMax = 10'000;
inline constexpr int kYamlDepthMax = 32;

struct YamlNode;
// Shared, since an alias is the node that it names.
using YamlNodePtr = std::shared_ptr<const YamlNode>;

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };

  Kind kind = Kind::kNull;
  // Where it begins, from 1.
  int line = 0;
  // Maps and sequences on the longest way down, itself and those behind aliases included; at most kYamlDepthMax.
  int depth = 0;
  // Of a scalar.
  std::string text;
  bool quoted = false;
  // Of a map, in the text's order.
  std::vector<std::pair<YamlNodePtr, YamlNodePtr>> entries;
  // Of a sequence.
  std::vector<YamlNodePtr> items;
};

struct YamlError {
  // From 1; 0 when it isn't about a line.
  int line = 0;
  std::string message;
};

struct YamlDocument {
  // Null exactly when `error` has a message.
  YamlNodePtr root;
  YamlError error;
};

// Exactly one document, in UTF-8. An empty text is a null node.
YamlDocument ParseYaml(std::string_view text);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_JOBFILE_YAML_TREE_H_
