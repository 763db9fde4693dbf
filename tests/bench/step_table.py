#!/usr/bin/env python3
"""What a step of a GPT-2 moves and computes on one card, launch by launch, and the time and MFU that follow.

  tests/bench/step_table.py                                            # 124M, 32 x 1024 tokens
  tests/bench/step_table.py --layers 24 --hidden 2048 --heads 16 --batch 8 --seq_length 2048

A launch takes as long as its bytes or its FLOPs at the given rates, whichever is longer: what a card can do at best, and
what to hold measured times against. Nothing is measured here. bf16, one rank, one micro-batch, placement local with the
mirror; the launches are those of worker/model and worker/ops/cuda.
"""

import argparse
import json

BF16 = 2
FP32 = 4
HEAD_ROWS = 4096  # core/model: rows whose logits exist at once


class Table:
    def __init__(self, bandwidth, rate):
        self.bandwidth = bandwidth
        self.rate = rate
        self.rows = []

    def add(self, part, name, count, bytes_, flops=0.0, rate_share=1.0):
        """`bytes_` and `flops` of each of `count` launches; `rate_share`: of the rate that this kernel's instructions have."""
        seconds = max(bytes_ / self.bandwidth, flops / (self.rate * rate_share))
        self.rows.append({"part": part, "launch": name, "count": count, "bytes": bytes_, "flops": flops,
                          "us": seconds * 1e6, "total_ms": seconds * count * 1e3})


def linear(table, part, name, layers, rows, inputs, outputs, extra=0, rate=1.0):
    """Forward, input's gradient, weight's gradient (fp32), bias' gradient. `extra`: what GELU's epilogues move in both."""
    flops = 2.0 * rows * inputs * outputs
    activations = BF16 * rows * (inputs + outputs)
    weight = inputs * outputs
    table.add(part, name + " forward", layers, activations + BF16 * weight + extra, flops, rate)
    table.add(part, name + " input gradient", layers, activations + BF16 * weight + extra, flops, rate)
    table.add(part, name + " weight gradient", layers, activations + FP32 * weight, flops, rate)
    table.add(part, name + " bias gradient", layers, BF16 * rows * outputs)


def build(a):
    table = Table(a.bandwidth * 1e12, a.rate * 1e12)
    rows = a.batch * a.seq_length
    hidden, inner, vocab = a.hidden, 4 * a.hidden, a.vocab_size
    narrow = BF16 * rows * hidden  # bytes of a boundary tensor
    boundary = rows * hidden
    layer = 12 * hidden * hidden + 13 * hidden
    parameters = a.layers * layer + (vocab + a.seq_length) * hidden + 2 * hidden

    table.add("embedding", "forward", 1, 2 * narrow)
    table.add("embedding", "gradient (order, tokens, positions)", 1, 2 * narrow + FP32 * vocab * hidden)
    part = "layer"
    table.add(part, "LayerNorm 1", a.layers, 2 * narrow)
    linear(table, part, "qkv", a.layers, rows, hidden, 3 * hidden)
    scores = 4.0 * rows * a.seq_length * hidden / 2  # both products, causal
    statistics = FP32 * rows * a.heads
    table.add(part, "attention forward", a.layers, 4 * narrow + statistics, scores, a.attention_share)
    table.add(part, "attention gradient: dot", a.layers, 2 * narrow + statistics)
    table.add(part, "attention gradient: queries", a.layers, 5 * narrow + 2 * statistics, 1.5 * scores, a.attention_share)
    table.add(part, "attention gradient: keys", a.layers, 6 * narrow + 2 * statistics, 2 * scores, a.attention_share)
    linear(table, part, "proj", a.layers, rows, hidden, hidden)
    if a.residual == "kernel":
        table.add(part, "residual and LayerNorm 2", a.layers, 4 * narrow)
        table.add(part, "residual", a.layers, 3 * narrow)
    else:  # read by the product before it
        table.add(part, "residuals, in products", 2 * a.layers, narrow)
        table.add(part, "LayerNorm 2", a.layers, 2 * narrow)
    linear(table, part, "fc with GELU", a.layers, rows, hidden, inner, extra=0)
    table.rows[-4]["bytes"] += BF16 * rows * inner  # what goes into GELU
    linear(table, part, "mlp_proj with GELU's gradient", a.layers, rows, inner, hidden)
    table.rows[-3]["bytes"] += BF16 * rows * inner
    table.add(part, "LayerNorm gradient", 2 * a.layers, 4 * narrow)
    table.add("head", "LayerNorm and its gradient", 1, 7 * narrow)
    chunks = -(-rows // HEAD_ROWS)
    chunk = rows // chunks
    logits = BF16 * chunk * vocab
    product = 2.0 * chunk * hidden * vocab
    weight = hidden * vocab
    table.add("head", "logits", chunks, logits + BF16 * weight, product)
    table.add("head", "loss and gradient of the logits", chunks, 2 * logits)
    table.add("head", "weight gradient", chunks, logits + 2 * FP32 * weight, product)
    table.add("head", "input gradient", chunks, logits + BF16 * weight, product)
    table.add("update", "squares of the gradients", 1, FP32 * parameters)
    table.add("update", "AdamW with the bf16 copy", 1, (7 * FP32 + BF16) * parameters)
    table.add("update", "the mirror's copies, on the device's side", 1, FP32 * parameters)
    for row in table.rows:  # after the corrections above
        row["us"] = max(row["us"], row["bytes"] / table.bandwidth * 1e6)
        row["total_ms"] = row["us"] * row["count"] / 1e3
    # As is usual: 6 for each weight of a product and token, and attention's products, whole (not half of them).
    model_flops = rows * (6.0 * (a.layers * 12 * hidden * hidden + vocab * hidden) + 12.0 * a.layers * hidden * a.seq_length)
    return table.rows, parameters, model_flops


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32, help="samples of the step")
    parser.add_argument("--seq_length", type=int, default=1024)
    parser.add_argument("--vocab_size", type=int, default=50257)
    parser.add_argument("--bandwidth", type=float, default=4.3, help="TB/s of a large copy")
    parser.add_argument("--rate", type=float, default=790, help="TFLOP/s of a large bf16 product")
    parser.add_argument("--attention_share", type=float, default=0.5, help="of that rate, attention's kernels'")
    parser.add_argument("--residual", choices=["kernel", "product"], default="product")
    parser.add_argument("-o", dest="output", choices=["table", "json"], default="table")
    a = parser.parse_args()
    rows, parameters, model_flops = build(a)
    total = sum(row["total_ms"] for row in rows)
    mfu = model_flops / (total * 1e-3) / (a.rate * 1e12)
    tokens = a.batch * a.seq_length
    summary = {"parameters": parameters, "tokens": tokens, "step_ms": total, "tokens_per_second": tokens / total * 1e3,
               "model_tflop": model_flops / 1e12, "mfu": mfu}
    if a.output == "json":
        print(json.dumps({"launches": rows, **summary}, indent=1))
        return
    print(f"{'part':10} {'launch':42} {'count':>5} {'MB':>8} {'GFLOP':>8} {'us':>8} {'ms':>8} {'%':>5}")
    for row in rows:
        print(f"{row['part']:10} {row['launch']:42} {row['count']:5} {row['bytes'] / 1e6:8.0f} {row['flops'] / 1e9:8.0f} "
              f"{row['us']:8.1f} {row['total_ms']:8.2f} {100 * row['total_ms'] / total:5.1f}")
    memory = sum(row["total_ms"] for row in rows if row["flops"] == 0)
    print(f"{parameters / 1e6:.0f}M parameters, {tokens} tokens: {total:.1f} ms, of them {memory:.1f} without a product; "
          f"{tokens / total * 1e3:.0f} tokens/s, MFU {mfu:.2f} of {a.rate:.0f} TFLOP/s")


if __name__ == "__main__":
    main()
