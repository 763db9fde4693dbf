#include "services/client/printable_text.h"

namespace penstock {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Bytes of the character that begins with `lead`; 0 for none.
size_t LengthOf(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

// Whether byte `index` may follow `lead` (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
bool MayFollow(uint8_t lead, size_t index, uint8_t byte) {
  if (index == 1 && lead == 0xE0) return byte >= 0xA0 && byte <= 0xBF;
  if (index == 1 && lead == 0xED) return byte >= 0x80 && byte <= 0x9F;
  if (index == 1 && lead == 0xF0) return byte >= 0x90 && byte <= 0xBF;
  if (index == 1 && lead == 0xF4) return byte >= 0x80 && byte <= 0x8F;
  return byte >= 0x80 && byte <= 0xBF;
}

// C0 and C1 controls and DEL.
bool IsControl(std::string_view character) {
  const auto first = static_cast<uint8_t>(character[0]);
  if (character.size() == 1) return (first < 0x20 && first != '\n' && first != '\t') || first == 0x7F;
  return character.size() == 2 && first == 0xC2 && static_cast<uint8_t>(character[1]) < 0xA0;
}

}  // namespace

std::string PrintableText::Add(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    if (!open_.empty() && !MayFollow(static_cast<uint8_t>(open_[0]), open_.size(), byte)) out += Finish();
    const size_t length = LengthOf(open_.empty() ? byte : static_cast<uint8_t>(open_[0]));
    if (length == 0) {
      out += kReplacement;
      continue;
    }
    open_.push_back(c);
    if (open_.size() < length) continue;
    out += IsControl(open_) ? std::string(kReplacement) : open_;
    open_.clear();
  }
  return out;
}

std::string PrintableText::Finish() {
  if (open_.empty()) return "";
  open_.clear();
  return std::string(kReplacement);
}

std::string ToPrintable(std::string_view bytes) {
  PrintableText text;
  std::string out = text.Add(bytes);
  return out + text.Finish();
}

}  // namespace penstock
