// The emulator's <nccl.h> beside the library's.
#include <gtest/gtest.h>

#include "worker/comm/nccl/testing/header_facts.h"

namespace penstock::nccl_emulator {
namespace {

TEST(NcclHeaderTest, OursSaysWhatTheLibrarysSays) {
  EXPECT_EQ(OurHeader(), LibraryHeader());
  EXPECT_GT(OurHeader().size(), 30u);
}

}  // namespace
}  // namespace penstock::nccl_emulator
