#!/usr/bin/env python3
"""Checks by hand that Hugging Face's transformers reads what `penstockctl checkpoint export` wrote.

  check_hf_export.py FOLDER                       a model of bytes: its tokenizer, and greedy text to compare with
                                                  `penstockctl generate CHECKPOINT --temperature 0`
  check_hf_export.py FOLDER LOGITS.safetensors    logits for `tokens` against `logits` (fixtures/hf_gpt2_logits.safetensors)

Needs PyTorch and transformers.
"""
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    model, report = AutoModelForCausalLM.from_pretrained(sys.argv[1], output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"], report
    print(f"{type(model).__name__}: {sum(p.numel() for p in model.parameters())} parameters, nothing missing or left over")
    if len(sys.argv) > 2:
        expected = load_file(sys.argv[2])
        with torch.no_grad():
            difference = (model(expected["tokens"].long()).logits - expected["logits"]).abs().max().item()
        print(f"logits differ by at most {difference:.2e}")
        assert difference < 1e-4
        return
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    text = "In the beginning: Grüße, 水, <tab>\t.\n"
    ids = tokenizer(text)["input_ids"]
    assert ids == list(text.encode()), ids
    assert tokenizer.decode(ids) == text
    print("the tokenizer's ids are the text's bytes, and back")
    prompt = torch.tensor([list(b"And the LORD said ")])
    with torch.no_grad():
        out = model.generate(prompt, max_new_tokens=60, do_sample=False, pad_token_id=0)
    print(repr(tokenizer.decode(out[0].tolist())))


if __name__ == "__main__":
    main()
