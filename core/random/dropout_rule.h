// Which elements dropout keeps (Srivastava et al. 2014): a pure function of (seed, sample, site, element). A sample is
// counted over the whole job, so the answer is the same on every mesh and device and after every recovery, and never
// needs to be stored.
//
//   const DropoutRule rule = DropoutRuleOf(/*probability=*/0.1, seed);
//   uint32_t words[4];
//   DropoutBits(rule, sample, site, element / kDropoutBlock, words);
//   y = DropoutKeeps(rule, words, element % kDropoutBlock) ? x * rule.scale : 0;
#ifndef PENSTOCK_CORE_RANDOM_DROPOUT_RULE_H_
#define PENSTOCK_CORE_RANDOM_DROPOUT_RULE_H_

#include <cstdint>

#include "core/random/philox.h"

namespace penstock {

// Neighbouring elements whose bits come from one block of Philox.
inline constexpr int kDropoutBlock = 8;

struct DropoutRule {
  // Philox's key.
  uint32_t key0 = 0;
  uint32_t key1 = 0;
  // Of 2^16: an element stays if its 16 bits are below that.
  uint32_t keep = 1 << 16;
  // What stays is multiplied by, 2^16 / keep, so that sums keep their expectation.
  float scale = 1;
};

// probability: of an element to be dropped, in [0, 1); taken in steps of 2^-16, and at least one step stays.
DropoutRule DropoutRuleOf(double probability, uint64_t seed);

// The bits of elements [block, block + 1) * kDropoutBlock of a sample. `site` tells the job's uses of dropout apart.
PENSTOCK_PHILOX_INLINE void DropoutBits(const DropoutRule& rule, uint64_t sample, uint32_t site, uint32_t block,
                                        uint32_t (&words)[4]) {
  words[0] = block;
  words[1] = static_cast<uint32_t>(sample);
  words[2] = static_cast<uint32_t>(sample >> 32);
  words[3] = site;
  philox::Rounds(words[0], words[1], words[2], words[3], rule.key0, rule.key1);
}
// `index`: of the element in its block.
PENSTOCK_PHILOX_INLINE bool DropoutKeeps(const DropoutRule& rule, const uint32_t (&words)[4], int index) {
  return (words[index / 2] >> index % 2 * 16 & 0xffffu) < rule.keep;
}

}  // namespace penstock

#endif  // PENSTOCK_CORE_RANDOM_DROPOUT_RULE_H_
