// MeasureRates without measuring, which takes a minute on the emulator: a small card's rates, all workers' alike.
#include "core/base/status_macros.h"
#include "worker/runtime/rate_probe.h"

namespace penstock {
namespace {

constexpr double kFlops = 1e12;
constexpr double kBytes = 1e11;

void SetRates(v1::ComputeRates* rates) {
  for (const uint32_t hidden : {32u, 512u}) {
    v1::ComputeRates::LayerRate* const layer = rates->add_layers();
    layer->set_hidden(hidden);
    layer->set_forward_flops_per_second(kFlops);
    layer->set_backward_flops_per_second(kFlops);
    layer->set_attention_forward_flops_per_second(kFlops);
    layer->set_attention_backward_flops_per_second(kFlops);
  }
  rates->set_head_flops_per_second(kFlops);
}

}  // namespace

absl::StatusOr<v1::WorkerRates> MeasureRates(int,
                                             const std::function<absl::StatusOr<std::unique_ptr<Backend>>()>& create) {
  PENSTOCK_RETURN_IF_ERROR(create().status());
  v1::WorkerRates rates;
  SetRates(rates.mutable_fp32());
  SetRates(rates.mutable_bf16());
  rates.set_memory_bytes_per_second(kBytes);
  return rates;
}

}  // namespace penstock
