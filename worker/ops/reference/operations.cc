#include "worker/ops/reference/operations.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace penstock::reference {
namespace {

Values Zeros(int64_t size) { return Values(static_cast<size_t>(size), 0.0); }

// Index of weight (from input i to output o).
size_t WeightAt(const LinearShape& shape, int64_t i, int64_t o) {
  return static_cast<size_t>(shape.layout == WeightLayout::kOutIn ? o * shape.in + i : i * shape.out + o);
}

// Index of q (0), k (1) or v (2) in (B, T, H, 3, D).
size_t QkvAt(const AttentionShape& s, int64_t b, int64_t t, int64_t h, int64_t which, int64_t d) {
  return static_cast<size_t>((((b * s.seq_length + t) * s.heads + h) * 3 + which) * s.head_dim + d);
}

// Index in (B, T, H, D).
size_t OutAt(const AttentionShape& s, int64_t b, int64_t t, int64_t h, int64_t d) {
  return static_cast<size_t>(((b * s.seq_length + t) * s.heads + h) * s.head_dim + d);
}

Values Softmax(Values scores) {
  const double maximum = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - maximum);
  for (double& score : scores) score /= sum;
  return scores;
}

// Probabilities of query t over the first `keys` keys.
Values AttentionRow(const AttentionShape& s, const Values& qkv, int64_t b, int64_t t, int64_t h, int64_t keys) {
  Values scores = Zeros(keys);
  for (int64_t key = 0; key < keys; ++key) {
    double dot = 0;
    for (int64_t d = 0; d < s.head_dim; ++d) dot += qkv[QkvAt(s, b, t, h, 0, d)] * qkv[QkvAt(s, b, key, h, 1, d)];
    scores[static_cast<size_t>(key)] = dot / std::sqrt(static_cast<double>(s.head_dim));
  }
  return Softmax(scores);
}

}  // namespace

Values LinearForward(const LinearShape& shape, const Values& x, const Values& weight, const Values& bias) {
  Values y = Zeros(shape.rows * shape.out);
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t o = 0; o < shape.out; ++o) {
      double sum = bias.empty() ? 0 : bias[static_cast<size_t>(o)];
      for (int64_t i = 0; i < shape.in; ++i) {
        sum += x[static_cast<size_t>(row * shape.in + i)] * weight[WeightAt(shape, i, o)];
      }
      y[static_cast<size_t>(row * shape.out + o)] = sum;
    }
  }
  return y;
}

LinearGradients LinearBackward(const LinearShape& shape, const Values& x, const Values& weight, const Values& dy) {
  LinearGradients g = {Zeros(shape.rows * shape.in), Zeros(shape.in * shape.out), Zeros(shape.out)};
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t o = 0; o < shape.out; ++o) {
      const double d = dy[static_cast<size_t>(row * shape.out + o)];
      g.bias[static_cast<size_t>(o)] += d;
      for (int64_t i = 0; i < shape.in; ++i) {
        const size_t at = static_cast<size_t>(row * shape.in + i);
        g.x[at] += d * weight[WeightAt(shape, i, o)];
        g.weight[WeightAt(shape, i, o)] += d * x[at];
      }
    }
  }
  return g;
}

Values LayerNormForward(const LayerNormShape& shape, const Values& x, const Values& gamma, const Values& beta) {
  Values y = Zeros(shape.rows * shape.width);
  for (int64_t row = 0; row < shape.rows; ++row) {
    const double* in = &x[static_cast<size_t>(row * shape.width)];
    double mean = 0;
    for (int64_t i = 0; i < shape.width; ++i) mean += in[i] / static_cast<double>(shape.width);
    double variance = 0;
    for (int64_t i = 0; i < shape.width; ++i) {
      variance += (in[i] - mean) * (in[i] - mean) / static_cast<double>(shape.width);
    }
    for (int64_t i = 0; i < shape.width; ++i) {
      y[static_cast<size_t>(row * shape.width + i)] =
          (in[i] - mean) / std::sqrt(variance + static_cast<double>(shape.epsilon)) * gamma[static_cast<size_t>(i)] +
          beta[static_cast<size_t>(i)];
    }
  }
  return y;
}

LayerNormGradients LayerNormBackward(const LayerNormShape& shape, const Values& x, const Values& gamma,
                                     const Values& dy) {
  LayerNormGradients g = {Zeros(shape.rows * shape.width), Zeros(shape.width), Zeros(shape.width)};
  const Values ones(static_cast<size_t>(shape.width), 1.0);
  const Values normal = LayerNormForward(shape, x, ones, Zeros(shape.width));
  const double width = static_cast<double>(shape.width);
  for (int64_t row = 0; row < shape.rows; ++row) {
    const size_t at = static_cast<size_t>(row * shape.width);
    double mean = 0;
    for (int64_t i = 0; i < shape.width; ++i) mean += x[at + static_cast<size_t>(i)] / width;
    double variance = 0;
    double g_mean = 0;
    double gn_mean = 0;
    for (size_t i = 0; i < static_cast<size_t>(shape.width); ++i) {
      variance += (x[at + i] - mean) * (x[at + i] - mean) / width;
      g_mean += dy[at + i] * gamma[i] / width;
      gn_mean += dy[at + i] * gamma[i] * normal[at + i] / width;
      g.gamma[i] += dy[at + i] * normal[at + i];
      g.beta[i] += dy[at + i];
    }
    for (size_t i = 0; i < static_cast<size_t>(shape.width); ++i) {
      g.x[at + i] = (dy[at + i] * gamma[i] - g_mean - normal[at + i] * gn_mean) /
                    std::sqrt(variance + static_cast<double>(shape.epsilon));
    }
  }
  return g;
}

Values AttentionForward(const AttentionShape& s, const Values& qkv, bool causal) {
  Values out = Zeros(s.batch * s.seq_length * s.heads * s.head_dim);
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t t = 0; t < s.seq_length; ++t) {
        const int64_t keys = causal ? t + 1 : s.seq_length;
        const Values p = AttentionRow(s, qkv, b, t, h, keys);
        for (int64_t key = 0; key < keys; ++key) {
          for (int64_t d = 0; d < s.head_dim; ++d) {
            out[OutAt(s, b, t, h, d)] += p[static_cast<size_t>(key)] * qkv[QkvAt(s, b, key, h, 2, d)];
          }
        }
      }
    }
  }
  return out;
}

Values AttentionBackward(const AttentionShape& s, const Values& qkv, const Values& dout, bool causal) {
  Values g = Zeros(static_cast<int64_t>(qkv.size()));
  const double scale = 1 / std::sqrt(static_cast<double>(s.head_dim));
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t t = 0; t < s.seq_length; ++t) {
        const int64_t keys = causal ? t + 1 : s.seq_length;
        const Values p = AttentionRow(s, qkv, b, t, h, keys);
        Values dp = Zeros(keys);
        double weighted = 0;
        for (int64_t key = 0; key < keys; ++key) {
          const size_t at = static_cast<size_t>(key);
          for (int64_t d = 0; d < s.head_dim; ++d) {
            dp[at] += dout[OutAt(s, b, t, h, d)] * qkv[QkvAt(s, b, key, h, 2, d)];
            g[QkvAt(s, b, key, h, 2, d)] += p[at] * dout[OutAt(s, b, t, h, d)];
          }
          weighted += p[at] * dp[at];
        }
        for (int64_t key = 0; key < keys; ++key) {
          const double ds = p[static_cast<size_t>(key)] * (dp[static_cast<size_t>(key)] - weighted) * scale;
          for (int64_t d = 0; d < s.head_dim; ++d) {
            g[QkvAt(s, b, t, h, 0, d)] += ds * qkv[QkvAt(s, b, key, h, 1, d)];
            g[QkvAt(s, b, key, h, 1, d)] += ds * qkv[QkvAt(s, b, t, h, 0, d)];
          }
        }
      }
    }
  }
  return g;
}

Values GeluForward(const Values& x) {
  Values y = x;
  for (double& v : y) v = v / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v)));
  return y;
}

Values GeluBackward(const Values& x, const Values& dy) {
  Values g = dy;
  const double root = std::sqrt(2 / std::numbers::pi);
  for (size_t i = 0; i < x.size(); ++i) {
    const double tanh = std::tanh(root * (x[i] + 0.044715 * x[i] * x[i] * x[i]));
    g[i] *= (1 + tanh) / 2 + x[i] / 2 * (1 - tanh * tanh) * root * (1 + 3 * 0.044715 * x[i] * x[i]);
  }
  return g;
}

Values Add(const Values& a, const Values& b) {
  Values y = a;
  for (size_t i = 0; i < y.size(); ++i) y[i] += b[i];
  return y;
}

Values EmbeddingForward(const EmbeddingShape& shape, const Tokens& tokens, const Values& wte, const Values& wpe) {
  Values x;
  for (int64_t i = 0; i < shape.batch * shape.seq_length; ++i) {
    for (int64_t c = 0; c < shape.hidden; ++c) {
      x.push_back(wte[static_cast<size_t>(tokens[static_cast<size_t>(i)] * shape.hidden + c)] +
                  wpe[static_cast<size_t>(i % shape.seq_length * shape.hidden + c)]);
    }
  }
  return x;
}

EmbeddingGradients EmbeddingBackward(const EmbeddingShape& shape, const Tokens& tokens, const Values& dx) {
  EmbeddingGradients g = {Zeros(shape.vocab_size * shape.hidden), Zeros(shape.seq_length * shape.hidden)};
  for (int64_t i = 0; i < shape.batch * shape.seq_length; ++i) {
    for (int64_t c = 0; c < shape.hidden; ++c) {
      const double d = dx[static_cast<size_t>(i * shape.hidden + c)];
      g.wte[static_cast<size_t>(tokens[static_cast<size_t>(i)] * shape.hidden + c)] += d;
      g.wpe[static_cast<size_t>(i % shape.seq_length * shape.hidden + c)] += d;
    }
  }
  return g;
}

double CrossEntropyForward(const CrossEntropyShape& shape, const Values& logits, const Tokens& targets) {
  double loss = 0;
  for (int64_t row = 0; row < shape.rows; ++row) {
    const int32_t target = targets[static_cast<size_t>(row)];
    if (target == kIgnoredTarget) continue;
    const auto begin = logits.begin() + row * shape.vocab_size;
    loss -= std::log(Softmax(Values(begin, begin + shape.vocab_size))[static_cast<size_t>(target)]);
  }
  return loss;
}

Values CrossEntropyBackward(const CrossEntropyShape& shape, const Values& logits, const Tokens& targets) {
  Values g = Zeros(shape.rows * shape.vocab_size);
  for (int64_t row = 0; row < shape.rows; ++row) {
    const int32_t target = targets[static_cast<size_t>(row)];
    if (target == kIgnoredTarget) continue;
    const auto begin = logits.begin() + row * shape.vocab_size;
    Values p = Softmax(Values(begin, begin + shape.vocab_size));
    p[static_cast<size_t>(target)] -= 1;
    std::copy(p.begin(), p.end(), g.begin() + row * shape.vocab_size);
  }
  return g;
}

}  // namespace penstock::reference
