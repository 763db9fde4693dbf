#include "worker/ops/cuda/testing/cublaslt_interface.h"

#include <dlfcn.h>

#include "gtest/gtest.h"
#include "worker/cuda/dynamic_library.h"

namespace penstock::cuda {
namespace {

// Where the emulator's header differs from the toolkit's, a test that passes on the emulator means nothing.
TEST(CublasLtInterfaceTest, TheEmulatorsIsTheToolkits) { EXPECT_EQ(EmulatedInterface(), ToolkitInterface()); }

// Descriptors need no device, so these are the library's own answers.
TEST(CublasLtInterfaceTest, TheEmulatorAnswersAsTheLibrary) {
  void* library = nullptr;
  for (const char* const name :
       {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13", "/usr/local/cuda/lib/libcublasLt.so.13",
        "libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so.12"}) {
    if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) GTEST_SKIP() << "cuBLASLt isn't on this machine: " << dlerror();
  const DynamicLibrary emulated = DynamicLibrary::Open({"libcublasLt.so.13"}).value();
  const auto answers = EmulatedAnswers([&](const char* name) {
    void (*function)() = nullptr;
    EXPECT_TRUE(emulated.Bind(name, &function).ok()) << name;
    return reinterpret_cast<void*>(function);
  });
  EXPECT_EQ(answers, ToolkitAnswers([&](const char* name) { return dlsym(library, name); }));
}

}  // namespace
}  // namespace penstock::cuda
