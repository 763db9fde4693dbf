// The optimizer state on the host of an emulated device, in runs that end inside of parameters, against the update that
// is done where the weights are: the same bits.
#include "worker/runtime/local_optimizer.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/data_type.h"
#include "core/plan/job_facts.h"
#include "core/plan/job_rules.h"
#include "worker/ops/cpu/cpu_backend.h"
#include "worker/ops/cuda/testing/emulated_device.h"
#include "worker/runtime/rank_test_util.h"

namespace penstock {
namespace {

constexpr int kSteps = 3;

using Floats = std::vector<float>;

Floats Random(int64_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Floats values(static_cast<size_t>(size));
  for (float& value : values) value = normal(random);
  return values;
}

RankPlan PlanOf(v1::TrainingSpec::Precision precision, v1::ZeroSpec::Offload offload, int zero_stage) {
  v1::Assignment assignment;
  v1::JobSpec& spec = *assignment.mutable_spec();
  spec = MakeTinyJob({.zero = zero_stage});
  spec.mutable_training()->set_precision(precision);
  spec.mutable_parallel()->set_device(v1::ParallelSpec::DEVICE_CUDA);
  spec.mutable_parallel()->mutable_zero()->set_placement(v1::ZeroSpec::PLACEMENT_LOCAL);
  spec.mutable_parallel()->mutable_zero()->set_offload(offload);
  FillDefaults(&spec);
  EXPECT_TRUE(CheckJob(spec).empty());
  assignment.set_epoch(1);
  assignment.add_peers();
  assignment.add_shards("127.0.0.1:1");
  return MakeRankPlan(assignment).value();
}

// A rank's weights and gradients in the memory of a device, and the optimizer.
class Rank {
 public:
  // `host`: where the state is, if it isn't on the device.
  Rank(const RankPlan& plan, int64_t run_elements_max, std::unique_ptr<Backend> device, std::unique_ptr<Backend> host)
      : plan_(plan),
        device_(std::move(device)),
        host_(std::move(host)),
        rounded_(ComputeType(plan.spec()) != DataType::kFloat32),
        size_(TotalSize(plan.updated())),
        weights_(device_->Allocate(size_ * (rounded_ ? 2 : 4)).value()),
        optimizer_(plan, run_elements_max),
        gradients_((optimizer_.gradients_on_host() ? device_->AllocateHost(size_ * 4) : device_->Allocate(size_ * 4))
                       .value()) {
    MemoryPlan memory;
    optimizer_.PlanMemory(&memory);
    arena_ = host_ != nullptr ? Arena::AllocateHost(memory, device_.get()).value()
                              : Arena::Allocate(memory, device_.get()).value();
    optimizer_.Bind(*arena_, device_.get(), host_.get());
    const Floats initial = Random(size_, 1);
    for (const WeightRange& held : optimizer_.Held()) {
      if (held.kind == v1::STATE_KIND_WEIGHTS) Write(Slice(initial, held.range), held.data);
    }
    int64_t offset = 0;
    for (const ElementRange& range : plan.updated()) {
      Floats part = Slice(initial, range);
      if (rounded_) {
        std::vector<Bfloat16> rounded(part.size());
        for (size_t i = 0; i < part.size(); ++i) rounded[i] = ToBfloat16(part[i]);
        Write(rounded, weights_->data() + offset * 2);
      } else {
        Write(part, weights_->data() + offset * 4);
      }
      offset += range.size();
    }
  }

  void Step(int step) {
    const Floats values = Random(size_, static_cast<uint32_t>(100 + step));
    Write(values, gradients_->data());
    std::vector<GradientRange> gradients;
    std::vector<WeightRange> weights;
    int64_t offset = 0;
    for (const ElementRange& range : plan_.updated()) {
      gradients.push_back({range, reinterpret_cast<const float*>(gradients_->data()) + offset});
      WeightRange weight{.range = range, .kind = v1::STATE_KIND_WEIGHTS};
      if (rounded_) {
        weight.rounded = reinterpret_cast<Bfloat16*>(weights_->data()) + offset;
      } else {
        weight.data = reinterpret_cast<float*>(weights_->data()) + offset;
      }
      weights.push_back(weight);
      offset += range.size();
    }
    v1::StepDecision decision;
    decision.set_step(static_cast<uint64_t>(step));
    decision.set_learning_rate(1e-2f);
    decision.set_gradient_scale(0.5f);
    decision.set_bias_correction1(1 - 0.9f);
    decision.set_bias_correction2(1 - 0.999f);
    ASSERT_TRUE(optimizer_.Update(decision, gradients, weights).ok());
  }

  std::vector<std::byte> Weights() { return Read(weights_->data(), weights_->size()); }
  std::vector<std::byte> Held(v1::StateKind kind) {
    std::vector<std::byte> all;
    for (const WeightRange& held : optimizer_.Held()) {
      if (held.kind != kind) continue;
      const auto part = Read(held.data, held.range.size() * 4);
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }

 private:
  Floats Slice(const Floats& whole, const ElementRange& range) const {
    return {whole.begin() + range.begin, whole.begin() + range.end};
  }
  template <typename T>
  void Write(const std::vector<T>& values, void* to) {
    ASSERT_TRUE(device_->Copy({}, values.data(), to, static_cast<int64_t>(values.size() * sizeof(T))).ok());
    ASSERT_TRUE(device_->Synchronize({}).ok());
  }
  std::vector<std::byte> Read(const void* from, int64_t bytes) {
    std::vector<std::byte> read(static_cast<size_t>(bytes));
    EXPECT_TRUE(device_->Copy({}, from, read.data(), bytes).ok());
    EXPECT_TRUE(device_->Synchronize({}).ok());
    return read;
  }

  const RankPlan& plan_;
  const std::unique_ptr<Backend> device_;
  const std::unique_ptr<Backend> host_;
  const bool rounded_;
  const int64_t size_;
  const std::unique_ptr<DeviceMemory> weights_;
  std::optional<Arena> arena_;
  LocalOptimizer optimizer_;
  const std::unique_ptr<DeviceMemory> gradients_;
};

class LocalOptimizerTest : public testing::TestWithParam<v1::TrainingSpec::Precision> {};

TEST_P(LocalOptimizerTest, WhereTheStateIsChangesNoBit) {
  const RankPlan here = PlanOf(GetParam(), v1::ZeroSpec::OFFLOAD_NONE, 1);
  Rank reference(here, kOffloadRunElements, CreateCpuBackend({.threads = 1}).value(), nullptr);
  for (int step = 1; step <= kSteps; ++step) reference.Step(step);
  // In ZeRO 2 the gradients are on the host, too.
  for (const int zero_stage : {1, 2}) {
    const RankPlan offloaded = PlanOf(GetParam(), v1::ZeroSpec::OFFLOAD_HOST, zero_stage);
    EXPECT_EQ(LocalOptimizer(offloaded).gradients_on_host(), zero_stage == 2);
    // Runs of a whole rank, of one element more or less than half of it, and of many that end anywhere.
    const int64_t size = TotalSize(offloaded.updated());
    for (const int64_t run : {size, size / 2 - 1, size / 2 + 1, int64_t{10007}}) {
      SCOPED_TRACE(absl::StrCat("ZeRO ", zero_stage, ", runs of ", run));
      Rank rank(offloaded, run, CreateEmulatedDevice(), CreateCpuBackend({.threads = 2}).value());
      for (int step = 1; step <= kSteps; ++step) rank.Step(step);
      EXPECT_EQ(rank.Weights(), reference.Weights());
      EXPECT_EQ(rank.Held(v1::STATE_KIND_EXP_AVG), reference.Held(v1::STATE_KIND_EXP_AVG));
      EXPECT_EQ(rank.Held(v1::STATE_KIND_EXP_AVG_SQ), reference.Held(v1::STATE_KIND_EXP_AVG_SQ));
      // In fp32 the reference's weights are the master weights.
      EXPECT_EQ(rank.Held(v1::STATE_KIND_WEIGHTS), GetParam() == v1::TrainingSpec::PRECISION_FP32
                                                       ? reference.Weights()
                                                       : reference.Held(v1::STATE_KIND_WEIGHTS));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, LocalOptimizerTest,
                         testing::Values(v1::TrainingSpec::PRECISION_FP32, v1::TrainingSpec::PRECISION_BF16),
                         [](const auto& info) {
                           return info.param == v1::TrainingSpec::PRECISION_FP32 ? "Fp32" : "Bf16";
                         });

}  // namespace
}  // namespace penstock
