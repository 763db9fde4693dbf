// What the operations ask of cuBLASLt, at its seam: every kind of product against sums in double, also where the
// library has no algorithm for it. On the emulated library, and on a device with the real one.
#include "worker/ops/cuda/cublaslt.h"

#include <cuda_runtime_api.h>

#include <cmath>
#include <optional>
#include <random>
#include <vector>

#include "core/base/bfloat16.h"
#include "core/plan/memory_class.h"
#include "gtest/gtest.h"
#include "worker/ops/cuda/testing/on_device.h"
#if defined(PENSTOCK_CUDA_EMULATED)
#include "worker/ops/cuda/testing/cublaslt/emulated_cublaslt.h"
#endif

namespace penstock::cuda {
namespace {

#if defined(PENSTOCK_CUDA_EMULATED)
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

using Values = std::vector<float>;

Values Random(int64_t size, uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_int_distribution<int> steps(-128, 127);  // exact in bf16
  Values values(static_cast<size_t>(size));
  for (float& value : values) value = static_cast<float>(steps(generator)) / 128;
  return values;
}

// A matrix on the device, `offset` elements behind a well aligned address.
class DeviceMatrix {
 public:
  DeviceMatrix(DataType type, const Values& values, int64_t offset)
      : type_(type),
        begin_(static_cast<size_t>(offset * BytesOf(type))),
        size_(values.size()),
        memory_(Bytes(values)) {}

  void* data() const { return memory_.data() + begin_; }

  Values Read() const {
    const std::vector<std::byte> bytes = memory_.Read();
    Values values(size_);
    for (size_t i = 0; i < size_; ++i) {
      if (type_ == DataType::kBfloat16) {
        Bfloat16 value;
        std::memcpy(&value, bytes.data() + begin_ + i * sizeof(value), sizeof(value));
        values[i] = ToFloat(value);
      } else {
        std::memcpy(&values[i], bytes.data() + begin_ + i * sizeof(float), sizeof(float));
      }
    }
    return values;
  }

 private:
  std::vector<std::byte> Bytes(const Values& values) const {
    const auto each = static_cast<size_t>(BytesOf(type_));
    std::vector<std::byte> bytes(begin_ + values.size() * each, std::byte{0xff});
    for (size_t i = 0; i < values.size(); ++i) {
      const Bfloat16 rounded = ToBfloat16(values[i]);
      std::memcpy(bytes.data() + begin_ + i * each,
                  type_ == DataType::kBfloat16 ? static_cast<const void*>(&rounded) : &values[i], each);
    }
    return bytes;
  }

  const DataType type_;
  const size_t begin_;
  const size_t size_;
  const OnDevice<std::byte> memory_;
};

class CublasLtTest : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (IsSkipped()) return;
    absl::StatusOr<std::unique_ptr<MatmulFactory>> library = CreateCublasLt();
    if (!kEmulated && !library.ok()) GTEST_SKIP() << library.status();
    library_ = *std::move(library);
    ASSERT_EQ(cudaMalloc(&workspace_, kGpuProductBytes), cudaSuccess);
  }
  void TearDown() override {
    if (workspace_ != nullptr) cudaFree(workspace_);
  }

  // D's elements, or the reason why there is no such product.
  absl::Status Check(const MatmulSpec& spec, bool accumulate, int64_t offset = 0) {
    SCOPED_TRACE(testing::Message() << spec.m << " x " << spec.n << " x " << spec.k << ", bf16 "
                                    << (spec.input == DataType::kBfloat16) << (spec.output == DataType::kBfloat16)
                                    << ", transposed " << spec.transpose_a << spec.transpose_b << ", bias "
                                    << spec.has_bias << ", epilogue " << static_cast<int>(spec.epilogue)
                                    << ", accumulate " << accumulate << ", offset " << offset);
    absl::StatusOr<std::unique_ptr<Matmul>> matmul = library_->Create(spec);
    if (!matmul.ok()) return matmul.status();
    const Values a = Random(spec.lda * (spec.transpose_a ? spec.m : spec.k), 1);
    const Values b = Random(spec.ldb * (spec.transpose_b ? spec.k : spec.n), 2);
    const Values bias = Random(spec.m, 3);
    const Values before = Random(spec.ldd * spec.n, 4);
    const Values aux = Random(spec.ldd * spec.n, 5);
    const DeviceMatrix device_a(spec.input, a, offset);
    const DeviceMatrix device_b(spec.input, b, offset);
    const DeviceMatrix device_bias(spec.output, bias, offset);
    const DeviceMatrix device_d(spec.output, before, offset);
    const DeviceMatrix device_aux(spec.output, aux, 0);
    EXPECT_LE((*matmul)->workspace_bytes(), kGpuProductBytes);
    const absl::Status status =
        (*matmul)->Run(Context(), device_a.data(), device_b.data(), spec.has_bias ? device_bias.data() : nullptr,
                       accumulate ? device_d.data() : nullptr, device_d.data(),
                       spec.epilogue == Epilogue::kNone ? nullptr : device_aux.data());
    if (!status.ok()) return status;
    const Values d = device_d.Read();
    const Values inner = device_aux.Read();
    const double tolerance = spec.output == DataType::kBfloat16 ? 1e-2 : 1e-5;
    const auto near = [&](double got, double expected) {
      EXPECT_NEAR(got, expected, tolerance * (1 + std::abs(expected)));
    };
    for (int64_t column = 0; column < spec.n; ++column) {
      for (int64_t row = 0; row < spec.ldd; ++row) {
        const auto at = static_cast<size_t>(column * spec.ldd + row);
        if (row >= spec.m) {
          EXPECT_EQ(d[at], before[at]);  // between the columns
          continue;
        }
        double sum = spec.has_bias ? static_cast<double>(bias[static_cast<size_t>(row)]) : 0;
        for (int64_t i = 0; i < spec.k; ++i) {
          const int64_t left = spec.transpose_a ? row * spec.lda + i : i * spec.lda + row;
          const int64_t right = spec.transpose_b ? i * spec.ldb + column : column * spec.ldb + i;
          sum += static_cast<double>(a[static_cast<size_t>(left)]) * static_cast<double>(b[static_cast<size_t>(right)]);
        }
        if (accumulate) sum += static_cast<double>(before[at]);
        if (spec.epilogue == Epilogue::kGelu) {
          near(static_cast<double>(inner[at]), sum);
          sum = Gelu(sum);
        } else if (spec.epilogue == Epilogue::kGeluGradient) {
          sum *= (Gelu(aux[at] + 1e-5) - Gelu(aux[at] - 1e-5)) / 2e-5;
        }
        near(static_cast<double>(d[at]), sum);
      }
    }
    return absl::OkStatus();
  }

  OpContext Context() const {
    return {.workspace = static_cast<std::byte*>(workspace_), .workspace_bytes = kGpuProductBytes};
  }

  static double Gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

  // Of every transposition, with columns `gap` elements longer than need be.
  std::vector<MatmulSpec> Specs(int64_t m, int64_t n, int64_t k, DataType input, DataType output, int64_t gap = 0) {
    std::vector<MatmulSpec> specs;
    for (const int transposed : {0, 1, 2, 3}) {
      MatmulSpec spec = {.m = m, .n = n, .k = k, .input = input, .output = output};
      spec.transpose_a = transposed % 2 == 1;
      spec.transpose_b = transposed / 2 == 1;
      spec.lda = (spec.transpose_a ? k : m) + gap;
      spec.ldb = (spec.transpose_b ? n : k) + gap;
      spec.ldd = m + gap;
      specs.push_back(spec);
    }
    return specs;
  }

  std::vector<MatmulSpec> Everything() {
    std::vector<MatmulSpec> specs;
    const DataType kinds[][2] = {{DataType::kFloat32, DataType::kFloat32},
                                 {DataType::kBfloat16, DataType::kFloat32},
                                 {DataType::kBfloat16, DataType::kBfloat16}};
    for (const auto& [input, output] : kinds) {
      for (const auto& [m, n, k, gap] :
           {std::array<int64_t, 4>{16, 8, 24, 0}, {17, 5, 131, 0}, {16, 24, 256, 0}, {1, 1, 1, 3}, {9, 33, 7, 5}}) {
        for (MatmulSpec spec : Specs(m, n, k, input, output, gap)) {
          specs.push_back(spec);
          spec.has_bias = true;
          specs.push_back(spec);
        }
      }
    }
    return specs;
  }

  std::unique_ptr<MatmulFactory> library_;
  void* workspace_ = nullptr;
};

TEST_F(CublasLtTest, ProductsOfEverySizeAndAlignment) {
  for (const MatmulSpec& spec : Everything()) {
    for (const int64_t offset : {0, 1, 4}) EXPECT_EQ(Check(spec, /*accumulate=*/offset == 0, offset), absl::OkStatus());
  }
}

// Every sum is of as many ones as it has terms, which fp32 holds exactly: a library that shares k out and forgets a
// part of it is found whatever its tiles are.
TEST_F(CublasLtTest, NoTermIsForgotten) {
  for (const DataType input : {DataType::kBfloat16, DataType::kFloat32}) {
    for (const int64_t side : {8, 64}) {
      for (const int64_t k : {129, 192, 1024, 1027, 2056, 4104}) {
        for (const MatmulSpec& spec : Specs(side, side, k, input, DataType::kFloat32)) {
          const DeviceMatrix a(input, Values(static_cast<size_t>(side * k), 1.0F), 0);
          const DeviceMatrix b(input, Values(static_cast<size_t>(side * k), 1.0F), 0);
          const DeviceMatrix d(DataType::kFloat32, Values(static_cast<size_t>(side * side)), 0);
          const auto matmul = library_->Create(spec);
          ASSERT_TRUE(matmul.ok()) << matmul.status();
          ASSERT_EQ((*matmul)->Run(Context(), a.data(), b.data(), nullptr, nullptr, d.data()), absl::OkStatus());
          ASSERT_EQ(d.Read(), Values(static_cast<size_t>(side * side), static_cast<float>(k)))
              << side << ", " << k << ", " << spec.transpose_a << spec.transpose_b;
        }
      }
    }
  }
}

TEST_F(CublasLtTest, Epilogues) {
  for (MatmulSpec spec : Specs(24, 16, 40, DataType::kBfloat16, DataType::kBfloat16, 8)) {
    for (const Epilogue epilogue : {Epilogue::kGelu, Epilogue::kGeluGradient}) {
      spec.epilogue = epilogue;
      spec.has_bias = epilogue == Epilogue::kGelu && spec.transpose_a;
      const absl::Status status = Check(spec, /*accumulate=*/false);
      if (!kEmulated && absl::IsUnimplemented(status)) GTEST_SKIP() << status;
      EXPECT_EQ(status, absl::OkStatus());
    }
  }
}

#if defined(PENSTOCK_CUDA_EMULATED)

TEST_F(CublasLtTest, WithoutAnAlgorithmThereIsAWay) {
  const emulator::ScopedProductAlignment nothing(256);
  for (const MatmulSpec& spec : Everything()) {
    for (const int64_t offset : {0, 1}) EXPECT_EQ(Check(spec, /*accumulate=*/offset == 0, offset), absl::OkStatus());
  }
}

TEST_F(CublasLtTest, EpiloguesThatTheLibraryHasNotGot) {
  MatmulSpec odd = Specs(20, 10, 40, DataType::kBfloat16, DataType::kBfloat16)[0];
  odd.epilogue = Epilogue::kGelu;
  EXPECT_EQ(Check(odd, false).code(), absl::StatusCode::kUnimplemented);
  odd = Specs(24, 10, 41, DataType::kBfloat16, DataType::kBfloat16)[1];  // A's columns don't begin at 16 bytes
  odd.epilogue = Epilogue::kGeluGradient;
  EXPECT_EQ(Check(odd, false).code(), absl::StatusCode::kUnimplemented);
}

#endif

}  // namespace
}  // namespace penstock::cuda
