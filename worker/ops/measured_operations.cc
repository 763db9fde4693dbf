#include "worker/ops/measured_operations.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

double Size(DataType type) { return static_cast<double>(BytesOf(type)); }
// Elements of a tensor.
template <typename... Sizes>
double Count(Sizes... sizes) {
  return (static_cast<double>(sizes) * ...);
}
// A parameter's fp32 gradient is read, too, where it is added to.
double GradientBytes(double elements, GradientMode mode) { return elements * (mode == GradientMode::kAdd ? 8 : 4); }

class MeasuredLinear : public Linear {
 public:
  MeasuredLinear(std::unique_ptr<Linear> inner, const LinearShape& shape, CallTimes* times)
      : inner_(std::move(inner)),
        times_(*times),
        flops_(2 * Count(shape.rows, shape.in, shape.out)),
        in_(Size(shape.type) * Count(shape.rows, shape.in)),
        out_(Size(shape.type) * Count(shape.rows, shape.out)),
        weight_(Size(shape.type) * Count(shape.in, shape.out)),
        parameters_(Count(shape.in, shape.out)) {
    const std::string name = absl::StrCat("linear ", shape.in, "x", shape.out);
    forward_ = times->MeterOf(name + " forward");
    input_gradient_ = times->MeterOf(name + " input gradient");
    weight_gradient_ = times->MeterOf(name + (shape.has_bias ? " weight and bias gradient" : " weight gradient"));
  }
  int64_t workspace_bytes() const override { return inner_->workspace_bytes(); }
  bool adds() const override { return inner_->adds(); }

  absl::Status Forward(const OpContext& context, const void* x, const void* weight, const void* bias,
                       void* y) const override {
    return times_.Run(context, forward_, flops_, in_ + weight_ + out_,
                      [&] { return inner_->Forward(context, x, weight, bias, y); });
  }
  absl::Status ForwardAdd(const OpContext& context, const void* x, const void* weight, const void* bias,
                          const void* addend, void* y) const override {
    return times_.Run(context, forward_, flops_, in_ + weight_ + 2 * out_,
                      [&] { return inner_->ForwardAdd(context, x, weight, bias, addend, y); });
  }
  absl::Status ForwardGelu(const OpContext& context, const void* x, const void* weight, const void* bias, void* inner,
                           void* y) const override {
    return times_.Run(context, forward_, flops_, in_ + weight_ + 2 * out_,
                      [&] { return inner_->ForwardGelu(context, x, weight, bias, inner, y); });
  }
  absl::Status BackwardInputGelu(const OpContext& context, const void* dy, const void* weight, const void* inner,
                                 void* dinner) const override {
    return times_.Run(context, input_gradient_, flops_, out_ + weight_ + 2 * in_,
                      [&] { return inner_->BackwardInputGelu(context, dy, weight, inner, dinner); });
  }
  absl::Status BackwardInput(const OpContext& context, const void* dy, const void* weight, void* dx) const override {
    return times_.Run(context, input_gradient_, flops_, out_ + weight_ + in_,
                      [&] { return inner_->BackwardInput(context, dy, weight, dx); });
  }
  absl::Status BackwardWeight(const OpContext& context, const void* x, const void* dy, float* dweight, float* dbias,
                              GradientMode mode) const override {
    return times_.Run(context, weight_gradient_, flops_, in_ + out_ + GradientBytes(parameters_, mode),
                      [&] { return inner_->BackwardWeight(context, x, dy, dweight, dbias, mode); });
  }

 private:
  const std::unique_ptr<Linear> inner_;
  CallTimes& times_;
  const double flops_, in_, out_, weight_, parameters_;
  SharedMeter forward_, input_gradient_, weight_gradient_;
};

class MeasuredLayerNorm : public LayerNorm {
 public:
  MeasuredLayerNorm(std::unique_ptr<LayerNorm> inner, const LayerNormShape& shape, CallTimes* times)
      : inner_(std::move(inner)),
        times_(*times),
        bytes_(Size(shape.type) * Count(shape.rows, shape.width)),
        forward_(times->MeterOf("layer norm forward")),
        of_sum_(times->MeterOf("layer norm of a sum")),
        backward_(times->MeterOf("layer norm backward")) {}
  int64_t workspace_bytes() const override { return inner_->workspace_bytes(); }

  absl::Status Forward(const OpContext& context, const void* x, const void* gamma, const void* beta, void* y,
                       float* mean, float* reciprocal_std) const override {
    return times_.Run(context, forward_, 0, 2 * bytes_,
                      [&] { return inner_->Forward(context, x, gamma, beta, y, mean, reciprocal_std); });
  }
  absl::Status ForwardOfSum(const OpContext& context, const void* a, const void* b, void* sum, const void* gamma,
                            const void* beta, void* y, float* mean, float* reciprocal_std) const override {
    return times_.Run(context, of_sum_, 0, 4 * bytes_,
                      [&] { return inner_->ForwardOfSum(context, a, b, sum, gamma, beta, y, mean, reciprocal_std); });
  }
  absl::Status Backward(const OpContext& context, const void* x, const void* gamma, const float* mean,
                        const float* reciprocal_std, const void* dy, void* dx, float* dgamma, float* dbeta,
                        GradientMode mode) const override {
    return times_.Run(context, backward_, 0, 4 * bytes_, [&] {
      return inner_->Backward(context, x, gamma, mean, reciprocal_std, dy, dx, dgamma, dbeta, mode);
    });
  }

 private:
  const std::unique_ptr<LayerNorm> inner_;
  CallTimes& times_;
  const double bytes_;
  const SharedMeter forward_, of_sum_, backward_;
};

// FLOPs as FlashAttention's authors count them: half of all pairs, and in the backward pass five products, whether or
// not some are computed twice.
class MeasuredAttention : public CausalAttention {
 public:
  MeasuredAttention(std::unique_ptr<CausalAttention> inner, const AttentionShape& shape, CallTimes* times)
      : inner_(std::move(inner)),
        times_(*times),
        product_(Count(shape.batch, shape.heads, shape.seq_length, shape.seq_length, shape.head_dim)),
        bytes_(Size(shape.type) * Count(shape.batch, shape.heads, shape.seq_length, shape.head_dim)),
        forward_(times->MeterOf("attention forward")),
        backward_(times->MeterOf("attention backward")) {}
  int64_t workspace_bytes() const override { return inner_->workspace_bytes(); }

  absl::Status Forward(const OpContext& context, const void* qkv, void* out, float* log_sum_exp) const override {
    return times_.Run(context, forward_, 2 * product_, 4 * bytes_,
                      [&] { return inner_->Forward(context, qkv, out, log_sum_exp); });
  }
  absl::Status Backward(const OpContext& context, const void* qkv, const void* out, const float* log_sum_exp,
                        const void* dout, void* dqkv) const override {
    return times_.Run(context, backward_, 5 * product_, 8 * bytes_,
                      [&] { return inner_->Backward(context, qkv, out, log_sum_exp, dout, dqkv); });
  }

 private:
  const std::unique_ptr<CausalAttention> inner_;
  CallTimes& times_;
  const double product_, bytes_;
  const SharedMeter forward_, backward_;
};

class MeasuredDropout : public Dropout {
 public:
  MeasuredDropout(std::unique_ptr<Dropout> inner, const DropoutShape& shape, CallTimes* times)
      : inner_(std::move(inner)),
        times_(*times),
        bytes_(2 * Size(shape.type) * Count(shape.samples, shape.elements)),
        meter_(times->MeterOf("dropout")) {}
  int64_t workspace_bytes() const override { return inner_->workspace_bytes(); }

  absl::Status Apply(const OpContext& context, uint64_t first_sample, uint32_t site, const void* x,
                     void* y) const override {
    return times_.Run(context, meter_, 0, bytes_, [&] { return inner_->Apply(context, first_sample, site, x, y); });
  }

 private:
  const std::unique_ptr<Dropout> inner_;
  CallTimes& times_;
  const double bytes_;
  const SharedMeter meter_;
};

// The tokens' rows count for nothing: how many different ones there are only the tokens say.
class MeasuredEmbedding : public Embedding {
 public:
  MeasuredEmbedding(std::unique_ptr<Embedding> inner, const EmbeddingShape& shape, CallTimes* times)
      : inner_(std::move(inner)),
        times_(*times),
        bytes_(Size(shape.type) * Count(shape.batch, shape.seq_length, shape.hidden)),
        forward_(times->MeterOf("embedding forward")),
        backward_(times->MeterOf("embedding backward")) {}
  int64_t workspace_bytes() const override { return inner_->workspace_bytes(); }

  absl::Status Forward(const OpContext& context, const int32_t* tokens, const void* wte, const void* wpe,
                       void* x) const override {
    return times_.Run(context, forward_, 0, bytes_, [&] { return inner_->Forward(context, tokens, wte, wpe, x); });
  }
  absl::Status Backward(const OpContext& context, const int32_t* tokens, const void* dx, float* dwte,
                        float* dwpe) const override {
    return times_.Run(context, backward_, 0, bytes_, [&] { return inner_->Backward(context, tokens, dx, dwte, dwpe); });
  }

 private:
  const std::unique_ptr<Embedding> inner_;
  CallTimes& times_;
  const double bytes_;
  const SharedMeter forward_, backward_;
};

class MeasuredHead : public LinearCrossEntropy {
 public:
  MeasuredHead(std::unique_ptr<LinearCrossEntropy> inner, const LinearCrossEntropyShape& shape, CallTimes* times)
      : inner_(std::move(inner)),
        times_(*times),
        flops_(2 * Count(shape.rows, shape.in, shape.columns())),
        in_(Size(shape.type) * Count(shape.rows, shape.in)),
        logits_(static_cast<double>(inner_->logits_bytes())),
        weight_(Size(shape.type) * Count(shape.in, shape.columns())),
        parameters_(Count(shape.in, shape.columns())),
        reductions_(Count(shape.rows, sizeof(RowReduction))),
        forward_(times->MeterOf("head forward")),
        loss_(times->MeterOf("head loss")),
        backward_(times->MeterOf("head backward")) {}
  int64_t workspace_bytes() const override { return inner_->workspace_bytes(); }
  int64_t logits_bytes() const override { return inner_->logits_bytes(); }

  absl::Status Forward(const OpContext& context, const void* x, const void* weight, const int32_t* targets,
                       void* logits, RowReduction* reductions, HeadPass pass) const override {
    return times_.Run(context, forward_, flops_, in_ + weight_ + logits_,
                      [&] { return inner_->Forward(context, x, weight, targets, logits, reductions, pass); });
  }
  absl::Status Loss(const OpContext& context, const RowReduction* all, const int32_t* targets, LossSum* total,
                    GradientMode mode) const override {
    return times_.Run(context, loss_, 0, reductions_, [&] { return inner_->Loss(context, all, targets, total, mode); });
  }
  absl::Status Backward(const OpContext& context, const void* x, const void* weight, const RowReduction* all,
                        const int32_t* targets, void* logits, void* dx, float* dweight,
                        GradientMode mode) const override {
    return times_.Run(context, backward_, 2 * flops_,
                      2 * in_ + weight_ + 2 * logits_ + GradientBytes(parameters_, mode),
                      [&] { return inner_->Backward(context, x, weight, all, targets, logits, dx, dweight, mode); });
  }

 private:
  const std::unique_ptr<LinearCrossEntropy> inner_;
  CallTimes& times_;
  const double flops_, in_, logits_, weight_, parameters_, reductions_;
  const SharedMeter forward_, loss_, backward_;
};

class MeasuredGelu : public Gelu {
 public:
  MeasuredGelu(std::unique_ptr<Gelu> inner, double bytes, CallTimes* times)
      : inner_(std::move(inner)),
        times_(*times),
        bytes_(bytes),
        forward_(times->MeterOf("gelu forward")),
        backward_(times->MeterOf("gelu backward")) {}
  int64_t workspace_bytes() const override { return inner_->workspace_bytes(); }

  absl::Status Forward(const OpContext& context, const void* x, void* y) const override {
    return times_.Run(context, forward_, 0, 2 * bytes_, [&] { return inner_->Forward(context, x, y); });
  }
  absl::Status Backward(const OpContext& context, const void* x, const void* dy, void* dx) const override {
    return times_.Run(context, backward_, 0, 3 * bytes_, [&] { return inner_->Backward(context, x, dy, dx); });
  }

 private:
  const std::unique_ptr<Gelu> inner_;
  CallTimes& times_;
  const double bytes_;
  const SharedMeter forward_, backward_;
};

class MeasuredResidualAdd : public ResidualAdd {
 public:
  MeasuredResidualAdd(std::unique_ptr<ResidualAdd> inner, double bytes, CallTimes* times)
      : inner_(std::move(inner)), times_(*times), bytes_(bytes), meter_(times->MeterOf("residual add")) {}
  int64_t workspace_bytes() const override { return inner_->workspace_bytes(); }

  absl::Status Forward(const OpContext& context, const void* a, const void* b, void* y) const override {
    return times_.Run(context, meter_, 0, 3 * bytes_, [&] { return inner_->Forward(context, a, b, y); });
  }

 private:
  const std::unique_ptr<ResidualAdd> inner_;
  CallTimes& times_;
  const double bytes_;
  const SharedMeter meter_;
};

}  // namespace

std::unique_ptr<Linear> Measured(std::unique_ptr<Linear> inner, const LinearShape& shape, CallTimes* times) {
  return std::make_unique<MeasuredLinear>(std::move(inner), shape, times);
}
std::unique_ptr<LayerNorm> Measured(std::unique_ptr<LayerNorm> inner, const LayerNormShape& shape, CallTimes* times) {
  return std::make_unique<MeasuredLayerNorm>(std::move(inner), shape, times);
}
std::unique_ptr<CausalAttention> Measured(std::unique_ptr<CausalAttention> inner, const AttentionShape& shape,
                                          CallTimes* times) {
  return std::make_unique<MeasuredAttention>(std::move(inner), shape, times);
}
std::unique_ptr<Dropout> Measured(std::unique_ptr<Dropout> inner, const DropoutShape& shape, CallTimes* times) {
  return std::make_unique<MeasuredDropout>(std::move(inner), shape, times);
}
std::unique_ptr<Embedding> Measured(std::unique_ptr<Embedding> inner, const EmbeddingShape& shape, CallTimes* times) {
  return std::make_unique<MeasuredEmbedding>(std::move(inner), shape, times);
}
std::unique_ptr<LinearCrossEntropy> Measured(std::unique_ptr<LinearCrossEntropy> inner,
                                             const LinearCrossEntropyShape& shape, CallTimes* times) {
  return std::make_unique<MeasuredHead>(std::move(inner), shape, times);
}
std::unique_ptr<Gelu> Measured(std::unique_ptr<Gelu> inner, double bytes, CallTimes* times) {
  return std::make_unique<MeasuredGelu>(std::move(inner), bytes, times);
}
std::unique_ptr<ResidualAdd> Measured(std::unique_ptr<ResidualAdd> inner, double bytes, CallTimes* times) {
  return std::make_unique<MeasuredResidualAdd>(std::move(inner), bytes, times);
}

}  // namespace penstock
