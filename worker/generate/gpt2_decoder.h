// GPT-2 forward for generating: token after token, with the keys and values of all earlier positions kept, so that a
// token costs one pass over the weights. Holds weights and that cache, no gradients and no activations of training; in
// fp32 on the CPU whatever the worker trains on.
//
// The same function as the stages of worker/model, in another order of sums: equal to it within rounding (tested).
// Whether tokens come one by one or several at a time changes no bit.
//
// Not synchronised.
#ifndef PENSTOCK_WORKER_GENERATE_GPT2_DECODER_H_
#define PENSTOCK_WORKER_GENERATE_GPT2_DECODER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/model/parameter_table.h"
#include "protos/penstock/v1/job.pb.h"
#include "worker/model/gpt2_layer_tensors.h"

namespace penstock {

class Gpt2Decoder {
 public:
  // Tokens that Append takes at a time; more share each reading of a weight, and more memory.
  static constexpr int64_t kRowsMax = 16;

  // `table` is `model`'s. INVALID_ARGUMENT for another family; RESOURCE_EXHAUSTED when the memory isn't there.
  static absl::StatusOr<std::unique_ptr<Gpt2Decoder>> Create(const v1::ModelSpec& model, const ParameterTable& table,
                                                             int threads);

  // All weights, in canonical layout, to be filled in before anything else.
  std::span<float> weights() { return {weights_.get(), static_cast<size_t>(table_.size())}; }

  // Positions that the model has, and those that are filled.
  int64_t positions() const { return positions_; }
  int64_t length() const { return length_; }
  int64_t vocab_size() const { return vocab_size_; }

  // Appends 1 to kRowsMax tokens. `logits` (V), of the token after the last one, may be empty where nobody asks.
  // INVALID_ARGUMENT for a token outside the vocabulary; FAILED_PRECONDITION when the positions don't suffice.
  absl::Status Append(std::span<const int32_t> tokens, std::span<float> logits);
  // Forgets all tokens.
  void Clear() { length_ = 0; }

 private:
  struct Layer {
    Gpt2LayerTensors<const float*> weights;
    // (H, T, D) each.
    float *keys, *values;
  };

  Gpt2Decoder(const v1::ModelSpec& model, const ParameterTable& table, int threads);
  absl::Status Allocate();
  const float* Find(const std::string& name) const;
  void Norm(const float* in, const float* weight, const float* bias, float* out, int64_t rows) const;
  void Attend(const Layer& layer, int64_t rows);
  void RunLayer(const Layer& layer, int64_t rows);

  const ParameterTable table_;
  const int64_t layer_count_, hidden_, heads_, head_dim_, positions_, vocab_size_, mlp_hidden_;
  const float epsilon_;
  const int threads_;

  std::unique_ptr<float[]> weights_;
  std::unique_ptr<float[]> cache_;
  std::vector<Layer> layers_;
  int64_t length_ = 0;
  // Of the rows under way: (R, C), (R, C), (R, H, 3, D), (R, C), (R, F), and a row of scores for each head, (H, T).
  std::vector<float> x_, norm_, qkv_, attention_, inner_, scores_;
};

}  // namespace penstock

#endif  // PENSTOCK_WORKER_GENERATE_GPT2_DECODER_H_
