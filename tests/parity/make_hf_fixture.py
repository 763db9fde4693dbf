#!/usr/bin/env python3
"""Makes fixtures/hf_gpt2*/: small GPT-2 folders written by Hugging Face's transformers, with PyTorch's logits.

Needs PyTorch and transformers (`pip install torch transformers safetensors`); the tests need only the folders, which
are committed. Weights are random everywhere, biases and norms included, so that nothing hides behind a zero or a one;
the logits are computed in float64 on the weights as they are stored.

  hf_gpt2/          GPT2LMHeadModel: one file, float32, names with "transformer."
  hf_gpt2_sharded/  GPT2Model: bfloat16, several files with an index, names without the prefix
  hf_gpt2_logits.safetensors   tokens int32 (samples, T); logits, logits_sharded float32 (samples, T, vocabulary)
"""
import os
import shutil

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

CONFIG = dict(n_layer=2, n_embd=24, n_head=3, n_positions=16, vocab_size=61, n_inner=80, bos_token_id=None,
              eos_token_id=None, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
SAMPLES = 3


def main():
    torch.manual_seed(1)
    model = GPT2LMHeadModel(GPT2Config(**CONFIG)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            around = 1.0 if ".ln_" in name and name.endswith("weight") else 0.0
            parameter.copy_(torch.randn(parameter.shape) * 0.2 + around)
    tokens = torch.randint(0, CONFIG["vocab_size"], (SAMPLES, CONFIG["n_positions"]))
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")
    for name in ("hf_gpt2", "hf_gpt2_sharded"):
        shutil.rmtree(os.path.join(here, name), ignore_errors=True)
    model.save_pretrained(os.path.join(here, "hf_gpt2"))
    with torch.no_grad():
        logits = model.double()(tokens).logits
        rounded = model.to(torch.bfloat16)
        rounded.transformer.save_pretrained(os.path.join(here, "hf_gpt2_sharded"), max_shard_size="12KB")
        logits_sharded = rounded.double()(tokens).logits
    save_file({"tokens": tokens.int(), "logits": logits.float().contiguous(),
               "logits_sharded": logits_sharded.float().contiguous()}, os.path.join(here, "hf_gpt2_logits.safetensors"))
    print(f"logits from {logits.min():.3f} to {logits.max():.3f}, bfloat16 differs by {(logits - logits_sharded).abs().max():.3f}")


if __name__ == "__main__":
    main()
