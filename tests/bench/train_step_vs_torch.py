#!/usr/bin/env python3
"""Penstock's training step and PyTorch's by turns, in one run, and their ratio: one JSON line at the end.

Build first: bazel build -c opt //tests/bench:train_step. PEER is a script that takes --precision, --threads, --steps and
prints a JSON line with step_ms, as tests/bench/train_step does; PYTHON is one that has torch.

  tests/bench/train_step_vs_torch.py --peer torch_gpt2.py --python /path/to/python3 --precision bf16
"""
import argparse
import json
import statistics
import subprocess

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--penstock", default="bazel-bin/tests/bench/train_step", help="the built benchmark")
arguments.add_argument("--peer", required=True, help="the PyTorch script")
arguments.add_argument("--python", default="python3", help="the Python that runs it")
arguments.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
arguments.add_argument("--threads", type=int, default=2)
arguments.add_argument("--steps", type=int, default=3, help="timed steps of each side in a round")
arguments.add_argument("--rounds", type=int, default=5, help="turns of each side")
options = arguments.parse_args()


def step_ms(command):
    command = command + [f"--precision={options.precision}", f"--threads={options.threads}", f"--steps={options.steps}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout.decode().strip().splitlines()[-1])["step_ms"]


ours, peers = [], []
for _ in range(options.rounds):
    ours.append(step_ms([options.penstock]))
    peers.append(step_ms([options.python, options.peer]))
print(json.dumps(dict(precision=options.precision, threads=options.threads, rounds=options.rounds,
                      penstock_step_ms=round(statistics.median(ours), 1), penstock_all=ours,
                      torch_step_ms=round(statistics.median(peers), 1), torch_all=peers,
                      ratio=round(statistics.median(peers) / statistics.median(ours), 3),
                      ratios=[round(peer / own, 3) for peer, own in zip(peers, ours)])))
