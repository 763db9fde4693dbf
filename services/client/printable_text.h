// A stream of bytes that a model wrote, as text that any terminal can take. Not synchronised.
#ifndef PENSTOCK_SERVICES_CLIENT_PRINTABLE_TEXT_H_
#define PENSTOCK_SERVICES_CLIENT_PRINTABLE_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock {

// Sound UTF-8 passes; what isn't becomes U+FFFD, and so do control characters other than line ends and tabulators: a
// model may write an escape sequence, and a terminal would obey it.
class PrintableText {
 public:
  // What can be printed now; the beginning of a character is kept until it is whole.
  std::string Add(std::string_view bytes);
  // What is left at the end.
  std::string Finish();

 private:
  std::string open_;
};

// All at once.
std::string ToPrintable(std::string_view bytes);

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_CLIENT_PRINTABLE_TEXT_H_
