#include "worker/ops/cuda/testing/cublaslt_interface.h"

#include "gtest/gtest.h"

namespace penstock::cuda {
namespace {

// Where the emulator's header differs from the toolkit's, a test that passes on the emulator means nothing.
TEST(CublasLtInterfaceTest, TheEmulatorsIsTheToolkits) { EXPECT_EQ(EmulatedInterface(), ToolkitInterface()); }

}  // namespace
}  // namespace penstock::cuda
