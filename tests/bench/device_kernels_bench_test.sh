#!/usr/bin/env bash
# Every kernel of the benchmark comes out, without an error.
set -euo pipefail
found=$(tests/bench/device_kernels_bench_emulated --once --batch 2 --seq_length 24 --hidden 32 --heads 2 --vocab_size 40 \
  --parameters 70001 --product 48)
python3 -c '
import json, sys
kernels = json.loads(sys.argv[1])["kernels"]
assert len(kernels) > 15, kernels
bad = [kernel for kernel in kernels if "error" in kernel or kernel["us"] < 0]
assert not bad, bad
' "$found"
