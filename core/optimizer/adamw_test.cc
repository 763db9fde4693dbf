#include "core/optimizer/adamw.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

struct State {
  std::vector<float> gradient, weights, exp_avg, exp_avg_sq;
};

State RandomState(size_t size, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  State state;
  for (size_t i = 0; i < size; ++i) {
    state.gradient.push_back(normal(generator) * 10);
    state.weights.push_back(normal(generator));
    state.exp_avg.push_back(normal(generator) * 0.1f);
    state.exp_avg_sq.push_back(std::abs(normal(generator)) * 0.01f);
  }
  return state;
}

AdamWParams Params() {
  return {.learning_rate = 1e-3f,
          .beta1 = 0.9f,
          .beta2 = 0.999f,
          .epsilon = 1e-8f,
          .weight_decay = 0.1f,
          .gradient_scale = 0.25f,
          .bias_correction1 = 1 / (1 - 0.9f * 0.9f),
          .bias_correction2 = 1 / (1 - 0.999f * 0.999f)};
}

void Update(const AdamWParams& params, State* state) {
  AdamWUpdate(params, state->gradient, state->weights, state->exp_avg, state->exp_avg_sq);
}

std::vector<uint32_t> Bits(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

// The definition, one element at a time. Volatile keeps the compiler from vectorising or reordering anything.
void UpdateOne(const AdamWParams& p, float gradient, volatile float* w, volatile float* m, volatile float* v) {
  volatile float g = gradient * p.gradient_scale;
  volatile float keep = std::fma(-p.learning_rate, p.weight_decay, 1.0f);
  *m = std::fma(1.0f - p.beta1, g - *m, *m);
  volatile float scaled = (1.0f - p.beta2) * g;
  *v = std::fma(scaled, g, p.beta2 * *v);
  volatile float root = std::sqrt(*v * p.bias_correction2);
  volatile float step = (*m * p.bias_correction1) / (root + p.epsilon);
  *w = std::fma(-p.learning_rate, step, *w * keep);
}

// Every version that this machine can run.
std::vector<VectorIsa> Isas() {
  std::vector<VectorIsa> isas = {VectorIsa::kV3};
  if (BestVectorIsa() == VectorIsa::kV4) isas.push_back(VectorIsa::kV4);
  return isas;
}

void ExpectSameBitsAsScalar(const AdamWParams& params, const State& start) {
  State scalar = start;
  for (size_t i = 0; i < scalar.weights.size(); ++i) {
    UpdateOne(params, scalar.gradient[i], &scalar.weights[i], &scalar.exp_avg[i], &scalar.exp_avg_sq[i]);
  }
  for (const VectorIsa isa : Isas()) {
    State state = start;
    AdamWUpdate(params, state.gradient, state.weights, state.exp_avg, state.exp_avg_sq, isa);
    EXPECT_EQ(Bits(state.weights), Bits(scalar.weights)) << state.weights.size();
    EXPECT_EQ(Bits(state.exp_avg), Bits(scalar.exp_avg)) << state.weights.size();
    EXPECT_EQ(Bits(state.exp_avg_sq), Bits(scalar.exp_avg_sq)) << state.weights.size();
  }
}

TEST(AdamWTest, SameBitsAsScalarAtEveryLength) {
  for (size_t size = 0; size <= 100; ++size) ExpectSameBitsAsScalar(Params(), RandomState(size, 1));
  ExpectSameBitsAsScalar(Params(), RandomState(65537, 2));
}

TEST(AdamWTest, SameBitsWhereverTheSpansAreCut) {
  State whole = RandomState(1000, 3);
  State cut = whole;
  Update(Params(), &whole);
  for (size_t begin = 0; begin < 1000;) {
    const size_t size = std::min<size_t>(1 + begin % 37, 1000 - begin);
    AdamWUpdate(Params(), std::span(cut.gradient).subspan(begin, size), std::span(cut.weights).subspan(begin, size),
                std::span(cut.exp_avg).subspan(begin, size), std::span(cut.exp_avg_sq).subspan(begin, size));
    begin += size;
  }
  EXPECT_EQ(Bits(cut.weights), Bits(whole.weights));
  EXPECT_EQ(Bits(cut.exp_avg), Bits(whole.exp_avg));
  EXPECT_EQ(Bits(cut.exp_avg_sq), Bits(whole.exp_avg_sq));
}

// Denormals, zeros, infinities and values about to overflow. (A NaN's payload isn't part of the promise.)
TEST(AdamWTest, SameBitsForExtremeValues) {
  const float inf = std::numeric_limits<float>::infinity();
  const float denormal = std::numeric_limits<float>::denorm_min();
  const float tiny = std::numeric_limits<float>::min();
  const float huge = std::numeric_limits<float>::max();
  const std::vector<float> extremes = {0.0f,   -0.0f, denormal, -denormal, tiny, tiny / 3,
                                       1e-20f, 1.0f,  1e19f,    huge,      inf};
  State state;
  for (const float g : extremes) {
    for (const float m : extremes) {
      // Infinity minus infinity is a NaN.
      if (std::isinf(g) && std::isinf(m)) continue;
      state.gradient.push_back(g);
      state.exp_avg.push_back(std::isinf(m) ? 1.0f : m);
      state.exp_avg_sq.push_back(std::isinf(g) ? 1.0f : denormal * 5);
      state.weights.push_back(1.0f);
    }
  }
  // m and v infinite would divide infinity by infinity; leave such gradients to the test below.
  for (float& g : state.gradient) {
    if (std::isinf(g)) g = 1.0f;
  }
  ExpectSameBitsAsScalar(Params(), state);
  State denormals = RandomState(64, 5);
  for (float& value : denormals.gradient) value *= 1e-38f;
  for (float& value : denormals.exp_avg) value *= 1e-38f;
  for (float& value : denormals.exp_avg_sq) value *= 1e-40f;
  ExpectSameBitsAsScalar(Params(), denormals);
}

TEST(AdamWTest, AgreesWithTheFormulaInDouble) {
  State state = RandomState(257, 7);
  const std::vector<float> start = state.weights;
  std::vector<double> w(start.begin(), start.end());
  std::vector<double> m(state.exp_avg.begin(), state.exp_avg.end());
  std::vector<double> v(state.exp_avg_sq.begin(), state.exp_avg_sq.end());
  AdamWParams params = Params();
  for (int step = 1; step <= 20; ++step) {
    params.bias_correction1 = static_cast<float>(1 / (1 - std::pow(0.9, step)));
    params.bias_correction2 = static_cast<float>(1 / (1 - std::pow(0.999, step)));
    for (size_t i = 0; i < w.size(); ++i) {
      const double g = 0.25 * state.gradient[i];
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.999 * v[i] + 0.001 * g * g;
      const double m_hat = m[i] / (1 - std::pow(0.9, step));
      const double v_hat = v[i] / (1 - std::pow(0.999, step));
      w[i] = w[i] - 1e-3 * 0.1 * w[i] - 1e-3 * m_hat / (std::sqrt(v_hat) + 1e-8);
    }
    Update(params, &state);
  }
  for (size_t i = 0; i < w.size(); ++i) {
    EXPECT_NEAR(state.weights[i], w[i], 2e-6 * (1 + std::abs(w[i])));
    EXPECT_NEAR(state.exp_avg[i], m[i], 2e-6 * (1 + std::abs(m[i])));
    // 1 - beta2 is rounded to float: 1.7e-5 of it.
    EXPECT_NEAR(state.exp_avg_sq[i], v[i], 5e-5 * std::abs(v[i]));
  }
}

TEST(AdamWTest, WithoutDecayAZeroGradientMovesNothing) {
  AdamWParams params = Params();
  params.weight_decay = 0;
  State state = RandomState(40, 9);
  std::fill(state.gradient.begin(), state.gradient.end(), 0.0f);
  std::fill(state.exp_avg.begin(), state.exp_avg.end(), 0.0f);
  std::fill(state.exp_avg_sq.begin(), state.exp_avg_sq.end(), 0.0f);
  const std::vector<float> before = state.weights;
  Update(params, &state);
  EXPECT_EQ(state.weights, before);
}

TEST(AdamW, WritesTheRoundedWeightsToo) {
  constexpr size_t kSize = 1037;
  std::vector<float> gradient(kSize), weights(kSize), exp_avg(kSize), exp_avg_sq(kSize);
  for (size_t i = 0; i < kSize; ++i) {
    gradient[i] = static_cast<float>(i % 17) * 0.01f - 0.05f;
    weights[i] = static_cast<float>(i % 29) * 0.1f - 1.0f;
    exp_avg[i] = static_cast<float>(i % 5) * 0.001f;
    exp_avg_sq[i] = static_cast<float>(i % 7) * 0.0001f;
  }
  const AdamWParams params{.learning_rate = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f};
  for (const VectorIsa isa : {VectorIsa::kV3, BestVectorIsa()}) {
    auto expected = weights, m = exp_avg, v = exp_avg_sq;
    AdamWUpdate(params, gradient, expected, m, v, isa);
    auto actual = weights, m2 = exp_avg, v2 = exp_avg_sq;
    std::vector<Bfloat16> rounded(kSize);
    AdamWUpdate(params, gradient, actual, m2, v2, rounded, isa);
    EXPECT_EQ(actual, expected);
    EXPECT_EQ(m2, m);
    EXPECT_EQ(v2, v);
    for (size_t i = 0; i < kSize; ++i) EXPECT_EQ(rounded[i], ToBfloat16(expected[i]));
  }
}

}  // namespace
}  // namespace penstock
