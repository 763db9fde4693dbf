// The emulated cuBLASLt refuses what the documentation says is wrong.
#include "worker/ops/cuda/testing/cublaslt/emulated_cublaslt.h"

#include <cublasLt.h>

#include <vector>

#include "gtest/gtest.h"
#include "worker/ops/cuda/testing/on_device.h"

namespace penstock::cuda {
namespace {

constexpr uint64_t kWorkspaceBytes = 1 << 16;

// A product of bf16, (m, k) by (k, n), that is right until a test changes it.
class EmulatedCublasLtTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cublasLtCreate(&handle_), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatmulDescCreate(&description_, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatmulPreferenceCreate(&preference_), CUBLAS_STATUS_SUCCESS);
    Prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
    a_ = Layout(CUDA_R_16BF, 16, 64, 16);
    b_ = Layout(CUDA_R_16BF, 64, 8, 64);
    d_ = Layout(CUDA_R_16BF, 16, 8, 16);
  }
  void TearDown() override {
    cublasLtMatmulPreferenceDestroy(preference_);
    cublasLtMatmulDescDestroy(description_);
    for (const cublasLtMatrixLayout_t layout : layouts_) cublasLtMatrixLayoutDestroy(layout);
    cublasLtDestroy(handle_);
  }

  cublasLtMatrixLayout_t Layout(cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld) {
    cublasLtMatrixLayout_t layout = nullptr;
    EXPECT_EQ(cublasLtMatrixLayoutCreate(&layout, type, rows, columns, ld), CUBLAS_STATUS_SUCCESS);
    layouts_.push_back(layout);
    return layout;
  }
  template <typename T>
  void Set(cublasLtMatmulDescAttributes_t attribute, T value) {
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(description_, attribute, &value, sizeof(value)), CUBLAS_STATUS_SUCCESS);
  }
  template <typename T>
  void Prefer(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    EXPECT_EQ(cublasLtMatmulPreferenceSetAttribute(preference_, attribute, &value, sizeof(value)),
              CUBLAS_STATUS_SUCCESS);
  }
  void PreferAlignment(uint32_t bytes) {
    Prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, bytes);
    Prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, bytes);
    Prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, bytes);
    Prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, bytes);
  }
  cublasStatus_t Choose() {
    int found = 0;
    return cublasLtMatmulAlgoGetHeuristic(handle_, description_, a_, b_, d_, d_, preference_, 1, &result_, &found);
  }
  // `shift`: bytes by which all matrices lie behind their places.
  cublasStatus_t Run(size_t shift = 0, size_t workspace_shift = 0, size_t workspace_bytes = kWorkspaceBytes) {
    const float one = 1;
    const float zero = 0;
    const auto at = [&](const OnDevice<std::byte>& memory, size_t by) { return memory.data() + by; };
    return cublasLtMatmul(handle_, description_, &one, at(a_memory_, shift), a_, at(b_memory_, shift), b_, &zero,
                          at(d_memory_, shift), d_, at(d_memory_, shift), d_, &result_.algo,
                          at(workspace_, workspace_shift), workspace_bytes, nullptr);
  }

  const OnDevice<std::byte> a_memory_{std::vector<std::byte>(4096)};
  const OnDevice<std::byte> b_memory_{std::vector<std::byte>(4096)};
  const OnDevice<std::byte> d_memory_{std::vector<std::byte>(4096)};
  const OnDevice<std::byte> aux_{std::vector<std::byte>(4096)};
  const OnDevice<std::byte> workspace_{std::vector<std::byte>(2 * kWorkspaceBytes)};
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t description_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatrixLayout_t a_ = nullptr, b_ = nullptr, d_ = nullptr;
  std::vector<cublasLtMatrixLayout_t> layouts_;
  cublasLtMatmulHeuristicResult_t result_{};
};

TEST_F(EmulatedCublasLtTest, RunsWhatItChose) {
  ASSERT_EQ(Choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_GT(result_.workspaceSize, 0u);
  EXPECT_EQ(Run(), CUBLAS_STATUS_SUCCESS);
}

TEST_F(EmulatedCublasLtTest, AttributesHaveTheirSizes) {
  const int64_t value = 0;
  EXPECT_EQ(cublasLtMatmulDescSetAttribute(description_, CUBLASLT_MATMUL_DESC_TRANSA, &value, 8),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasLtMatmulDescSetAttribute(description_, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &value, 4),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasLtMatmulPreferenceSetAttribute(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &value, 4),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasLtMatmulPreferenceSetAttribute(preference_, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &value, 8),
            CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(EmulatedCublasLtTest, LayoutsAreAProduct) {
  const auto right = a_;
  a_ = Layout(CUDA_R_16BF, 16, 64, 8);  // columns that overlap
  EXPECT_EQ(Choose(), CUBLAS_STATUS_INVALID_VALUE);
  a_ = Layout(CUDA_R_16BF, 64, 16, 64);
  EXPECT_EQ(Choose(), CUBLAS_STATUS_INVALID_VALUE);
  Set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  EXPECT_EQ(Choose(), CUBLAS_STATUS_SUCCESS);
  Set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_N);
  a_ = Layout(CUDA_R_32F, 16, 64, 16);  // by bf16
  EXPECT_EQ(Choose(), CUBLAS_STATUS_NOT_SUPPORTED);
  a_ = right;
  EXPECT_EQ(Choose(), CUBLAS_STATUS_SUCCESS);
}

TEST_F(EmulatedCublasLtTest, AnAlgorithmIsForItsLayoutsAndAddresses) {
  ASSERT_EQ(Choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(Run(/*shift=*/2), CUBLAS_STATUS_NOT_SUPPORTED);
  PreferAlignment(2);
  ASSERT_EQ(Choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(Run(/*shift=*/2), CUBLAS_STATUS_SUCCESS);
  PreferAlignment(1);
  EXPECT_EQ(Choose(), CUBLAS_STATUS_NOT_SUPPORTED);
  d_ = Layout(CUDA_R_16BF, 16, 8, 24);
  EXPECT_EQ(Run(), CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(EmulatedCublasLtTest, TheBiasAddressIsJudgedWhenAnAlgorithmIsChosen) {
  Set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  EXPECT_EQ(Choose(), CUBLAS_STATUS_INVALID_VALUE);  // it has none
  Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, aux_.data());
  ASSERT_EQ(Choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(Run(), CUBLAS_STATUS_SUCCESS);
  Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, aux_.data() + 2);
  EXPECT_EQ(Run(), CUBLAS_STATUS_NOT_SUPPORTED);
  ASSERT_EQ(Choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(Run(), CUBLAS_STATUS_SUCCESS);
}

TEST_F(EmulatedCublasLtTest, WorkspaceIsAlignedAndLargeEnough) {
  ASSERT_EQ(Choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(Run(0, /*workspace_shift=*/64), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(Run(0, 0, result_.workspaceSize - 1), CUBLAS_STATUS_INVALID_VALUE);
  Prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{0});
  ASSERT_EQ(Choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(Run(0, 0, 0), CUBLAS_STATUS_SUCCESS);
}

TEST_F(EmulatedCublasLtTest, GeluNeedsItsMatrix) {
  Set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU_AUX);
  Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{16});
  EXPECT_EQ(Choose(), CUBLAS_STATUS_INVALID_VALUE);
  Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux_.data());
  Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{20});
  EXPECT_EQ(Choose(), CUBLAS_STATUS_INVALID_VALUE);
  Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{8});
  EXPECT_EQ(Choose(), CUBLAS_STATUS_INVALID_VALUE);
  Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{24});
  ASSERT_EQ(Choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(Run(), CUBLAS_STATUS_SUCCESS);
  // The epilogue is part of what was asked for.
  Set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DGELU);
  EXPECT_EQ(Run(), CUBLAS_STATUS_INVALID_VALUE);
  PreferAlignment(8);
  EXPECT_EQ(Choose(), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(EmulatedCublasLtTest, WhatIsWrittenIsNothingElse) {
  ASSERT_EQ(Choose(), CUBLAS_STATUS_SUCCESS);
  const float one = 1;
  void* const d = d_memory_.data();
  const auto run = [&](const void* a, void* workspace) {
    return cublasLtMatmul(handle_, description_, &one, a, a_, b_memory_.data(), b_, &one, d, d_, d, d_, &result_.algo,
                          workspace, kWorkspaceBytes, nullptr);
  };
  EXPECT_EQ(run(a_memory_.data(), workspace_.data()), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(run(d, workspace_.data()), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(run(a_memory_.data(), d), CUBLAS_STATUS_INVALID_VALUE);
}

}  // namespace
}  // namespace penstock::cuda
