#include "core/optimizer/adamw.h"

#include <cmath>
#include <cstddef>

#include "core/base/status_macros.h"

namespace penstock {
namespace {

// One body for every instruction set. Inlined into functions of different targets below; std::fma is one instruction in
// all of them (x86-64-v3 has it), and nothing else is fused (-ffp-contract=off), so the targets differ in width alone.
// kRounds: `rounded` is written; else it is null.
template <bool kRounds>
[[gnu::always_inline]] inline void UpdateBody(const AdamWParams& p, size_t size, const float* __restrict gradient,
                                              float* __restrict weights, float* __restrict exp_avg,
                                              float* __restrict exp_avg_sq, Bfloat16* __restrict rounded) {
  const float one_minus_beta1 = 1.0f - p.beta1;
  const float one_minus_beta2 = 1.0f - p.beta2;
  const float keep = std::fma(-p.learning_rate, p.weight_decay, 1.0f);
  const float scale = p.gradient_scale;
  const float beta2 = p.beta2;
  const float rate = p.learning_rate;
  const float correction1 = p.bias_correction1;
  const float correction2 = p.bias_correction2;
  const float epsilon = p.epsilon;
  for (size_t i = 0; i < size; ++i) {
    const float g = gradient[i] * scale;
    const float m = std::fma(one_minus_beta1, g - exp_avg[i], exp_avg[i]);
    const float v = std::fma(one_minus_beta2 * g, g, beta2 * exp_avg_sq[i]);
    const float step = (m * correction1) / (std::sqrt(v * correction2) + epsilon);
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    const float w = std::fma(-rate, step, weights[i] * keep);
    weights[i] = w;
    if constexpr (kRounds) rounded[i] = ToBfloat16(w);
  }
}

template <bool kRounds>
[[gnu::target("arch=x86-64-v4,prefer-vector-width=512")]] void UpdateV4(const AdamWParams& p, size_t size,
                                                                        const float* gradient, float* weights,
                                                                        float* exp_avg, float* exp_avg_sq,
                                                                        Bfloat16* rounded) {
  UpdateBody<kRounds>(p, size, gradient, weights, exp_avg, exp_avg_sq, rounded);
}

template <bool kRounds>
void UpdateV3(const AdamWParams& p, size_t size, const float* gradient, float* weights, float* exp_avg,
              float* exp_avg_sq, Bfloat16* rounded) {
  UpdateBody<kRounds>(p, size, gradient, weights, exp_avg, exp_avg_sq, rounded);
}

void CheckSizes(size_t size, std::span<const float> weights, std::span<const float> exp_avg,
                std::span<const float> exp_avg_sq) {
  PENSTOCK_CHECK(size == weights.size());
  PENSTOCK_CHECK(size == exp_avg.size());
  PENSTOCK_CHECK(size == exp_avg_sq.size());
}

}  // namespace

void AdamWUpdate(const AdamWParams& params, std::span<const float> gradient, std::span<float> weights,
                 std::span<float> exp_avg, std::span<float> exp_avg_sq, VectorIsa isa) {
  CheckSizes(gradient.size(), weights, exp_avg, exp_avg_sq);
  (isa == VectorIsa::kV4 ? UpdateV4<false> : UpdateV3<false>)(params, gradient.size(), gradient.data(), weights.data(),
                                                              exp_avg.data(), exp_avg_sq.data(), nullptr);
}

void AdamWUpdate(const AdamWParams& params, std::span<const float> gradient, std::span<float> weights,
                 std::span<float> exp_avg, std::span<float> exp_avg_sq, std::span<Bfloat16> rounded, VectorIsa isa) {
  CheckSizes(gradient.size(), weights, exp_avg, exp_avg_sq);
  PENSTOCK_CHECK(gradient.size() == rounded.size());
  (isa == VectorIsa::kV4 ? UpdateV4<true> : UpdateV3<true>)(params, gradient.size(), gradient.data(), weights.data(),
                                                            exp_avg.data(), exp_avg_sq.data(), rounded.data());
}

}  // namespace penstock
