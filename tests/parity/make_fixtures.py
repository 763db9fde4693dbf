#!/usr/bin/env python3
"""Makes fixtures/gpt2.safetensors: what PyTorch computes for a small GPT-2, to check Penstock's model against.

Needs PyTorch, NumPy and safetensors (`pip install torch numpy safetensors`); the tests need only the file, which is
committed. Run it again when the model changes: the output depends on nothing but this script and PyTorch.

Weights are random everywhere, biases and norms included, so that nothing hides behind a zero or a one. PyTorch computes
in float64 on the float32 weights, so that the differences found are Penstock's own.

The file's tensors are in Penstock's canonical layout under its table's names (docs/ARCHITECTURE.md):
  weights.NAME, gradients.NAME  float32; the gradients are of the loss *sum* over `targets`
  tokens, targets               int32 (samples, T); -1 is a target that doesn't count
  loss                          float64: the sum
  steps.tokens, steps.targets   int32 (steps, samples, T): a training with AdamW that starts from weights.*
  steps.losses, steps.norms     float64 (steps): the mean before each update, and its gradient's norm before clipping
  final_weights.NAME            float32, after the last step
"""
import os

import numpy
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.numpy import save_file

LAYERS, HIDDEN, HEADS, SEQ, VOCAB, MLP, EPSILON = 2, 24, 3, 17, 61, 80, 1e-5
SAMPLES, STEPS, STEP_SAMPLES = 4, 10, 4
BETAS, ADAM_EPSILON, WEIGHT_DECAY, GRAD_CLIP = (0.9, 0.98), 1e-8, 0.1, 1.0
RATE, WARMUP, FINAL_RATIO = 0.01, 4, 0.1


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.qkv, self.proj = nn.LayerNorm(HIDDEN, EPSILON), nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.ln_2, self.fc, self.mlp_proj = nn.LayerNorm(HIDDEN, EPSILON), nn.Linear(HIDDEN, MLP), nn.Linear(MLP, HIDDEN)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (z.view(b, t, HEADS, c // HEADS).transpose(1, 2) for z in self.qkv(self.ln_1(x)).split(c, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp_proj(F.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCAB, HIDDEN), nn.Embedding(SEQ, HIDDEN)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(HIDDEN, EPSILON)

    def loss_sum(self, tokens, targets):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.ln_f(x) @ self.wte.weight.t()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum")


def canonical_names(model):
    """(canonical name, PyTorch parameter), in table order."""
    yield "wte", model.wte.weight
    yield "wpe", model.wpe.weight
    for i, block in enumerate(model.blocks):
        for name, module in [("ln_1", block.ln_1), ("attn.qkv", block.qkv), ("attn.proj", block.proj),
                             ("ln_2", block.ln_2), ("mlp.fc", block.fc), ("mlp.proj", block.mlp_proj)]:
            yield f"h.{i}.{name}.weight", module.weight
            yield f"h.{i}.{name}.bias", module.bias
    yield "ln_f.weight", model.ln_f.weight
    yield "ln_f.bias", model.ln_f.bias


def canonical(name, tensor):
    """From PyTorch's layout, linear weights (out, in) and q, k, v one after the other, to the canonical one."""
    array = tensor.detach().numpy().astype(numpy.float32)
    if ".attn.qkv." in name:  # (3, heads, dim, ...) -> (heads, 3, dim, ...)
        array = array.reshape(3, HEADS, HIDDEN // HEADS, *array.shape[1:]).swapaxes(0, 1)
    elif name.endswith("proj.weight"):  # row-parallel: (in, out)
        array = array.T
    return numpy.ascontiguousarray(array)


def main():
    torch.manual_seed(1)
    model = GPT2()
    with torch.no_grad():
        for name, parameter in canonical_names(model):
            around = 1.0 if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")) else 0.0
            parameter.copy_(torch.randn(parameter.shape) * 0.2 + around)
    model = model.double()  # of the float32 numbers

    tensors = {f"weights.{name}": canonical(name, parameter) for name, parameter in canonical_names(model)}

    tokens, targets = torch.randint(0, VOCAB, (2, SAMPLES, SEQ))
    targets[1, 5] = -1
    loss = model.loss_sum(tokens, targets)
    loss.backward()
    tensors |= {f"gradients.{name}": canonical(name, p.grad) for name, p in canonical_names(model)}
    tensors |= {"tokens": tokens.numpy().astype(numpy.int32), "targets": targets.numpy().astype(numpy.int32),
                "loss": numpy.array([loss.item()])}

    # Few distinct successors, so that there is something to learn in ten steps.
    first = torch.randint(0, VOCAB, (STEPS, STEP_SAMPLES, 1))
    text = (first + 7 * torch.arange(SEQ + 1)) % VOCAB
    # Warm-up, then a line down to the final ratio at the last step.
    rates = [RATE * (step / WARMUP if step <= WARMUP else 1 - (1 - FINAL_RATIO) * (step - WARMUP) / (STEPS - WARMUP))
             for step in range(1, STEPS + 1)]
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": WEIGHT_DECAY},
                                   {"params": others, "weight_decay": 0.0}], lr=0.0, betas=BETAS, eps=ADAM_EPSILON)
    losses, norms = [], []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.zero_grad(set_to_none=True)
        loss = model.loss_sum(text[step, :, :-1], text[step, :, 1:]) / (STEP_SAMPLES * SEQ)
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP).item())
        optimizer.step()
        losses.append(loss.item())
    tensors |= {"steps.tokens": text[:, :, :-1].numpy().astype(numpy.int32),
                "steps.targets": text[:, :, 1:].numpy().astype(numpy.int32),
                "steps.losses": numpy.array(losses), "steps.norms": numpy.array(norms)}
    tensors |= {f"final_weights.{name}": canonical(name, p) for name, p in canonical_names(model)}

    tensors = {name: numpy.ascontiguousarray(array) for name, array in tensors.items()}
    metadata = {"layers": LAYERS, "hidden": HIDDEN, "heads": HEADS, "seq_length": SEQ, "vocab_size": VOCAB,
                "mlp_hidden": MLP, "layer_norm_epsilon": EPSILON, "steps": STEPS, "beta1": BETAS[0], "beta2": BETAS[1],
                "adam_epsilon": ADAM_EPSILON, "weight_decay": WEIGHT_DECAY, "grad_clip": GRAD_CLIP,
                "learning_rate": RATE, "warmup_steps": WARMUP, "final_ratio": FINAL_RATIO, "made_by": f"PyTorch {torch.__version__}"}
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures", "gpt2.safetensors")
    save_file(tensors, path, metadata={key: str(value) for key, value in metadata.items()})
    print(f"{path}: loss {tensors['loss'][0]:.6f}, training {losses[0]:.4f} -> {losses[-1]:.4f}, norms {min(norms):.3f} to {max(norms):.3f}")


if __name__ == "__main__":
    main()
