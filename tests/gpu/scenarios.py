#!/usr/bin/env python3
"""Training on a device against training on the CPU, and what the device does when a worker dies: one JSON object.

    tests/gpu/scenarios.py BIN [--device cuda:0] [--reference cpu] [--steps 50] [--only parity,kill,speed]

BIN is a bundle's folder bin/. Real local clusters, one after the other:
  parity  a small GPT-2 in fp32 and bf16, with both placements, pipelines and data ranks: the losses of all steps against
          the reference's, within 1e-4 (fp32) and 2e-2 (bf16) relative, and the device's digest the same for both depths
  kill    kill -9 of one of the device's workers: the job goes on, to the digest of an undisturbed run
  speed   tokens a second of GPT-2 124M in bf16, with the mirror and without; PyTorch's, compiled, where it is installed
Several workers share the device. With --device cpu the program checks itself.
"""
import argparse
import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

LIMIT_SECONDS = 300
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
# name, precision, pipeline, data, tensor, zero stage, placement, mirror
MATRIX = [
    ("fp32", "fp32", 1, 1, 1, 1, "service", None),
    ("fp32, two stages", "fp32", 2, 1, 1, 1, "service", None),
    ("fp32, two data ranks", "fp32", 1, 2, 1, 1, "service", None),
    ("fp32, ZeRO 2", "fp32", 2, 2, 1, 2, "service", None),
    ("fp32, two tensor ranks", "fp32", 1, 1, 2, 1, "service", None),
    ("fp32, ranks update, mirror", "fp32", 2, 2, 1, 1, "local", "on"),
    ("fp32, ranks update", "fp32", 1, 2, 1, 1, "local", "off"),
    ("bf16", "bf16", 1, 1, 1, 1, "service", None),
    ("bf16, ranks update, mirror", "bf16", 2, 1, 1, 1, "local", "on"),
]
# Without a word about the pipeline: rows whose digests have to be the same.
SAME_DIGEST = [("fp32", "fp32, two stages")]

SMALL = "{family: gpt2, layers: 4, hidden: 128, heads: 4, seq_length: 64, vocab_size: 256}"
GPT2_124M = "{family: gpt2, layers: 12, hidden: 768, heads: 12, seq_length: 1024, vocab_size: 50304}"


def job(name, model, steps, batch, micro, row):
    """A job file's text; `row` as in MATRIX."""
    _, precision, pipeline, data, tensor, stage, placement, mirror = row
    zero = f"stage: {stage}, placement: {placement}" + (f", mirror: {mirror}" if mirror else "")
    return f"""
name: {name}
model: {model}
data: {{path: corpus.txt, format: bytes}}
training: {{steps: {steps}, global_batch_size: {batch}, micro_batch_size: {micro}, precision: {precision}, seed: 1}}
optimizer: {{type: adamw, learning_rate: 1e-3, weight_decay: 0.1, grad_clip: 1.0}}
parallel: {{data: {data}, tensor: {tensor}, pipeline: {pipeline}, zero: {{{zero}}}}}
"""


class Cluster:
    """A local cluster whose workers compute on `device`; jobs are submitted from its own folder."""

    def __init__(self, binaries, device, workers, folder):
        self.binaries = pathlib.Path(binaries)
        self.folder = pathlib.Path(folder)
        text = "".join(f"All work and no play makes Jack number {i} a dull boy.\n" for i in range(4000))
        (self.folder / "corpus.txt").write_text(text)
        log = open(self.folder / "local.log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [self.binaries / "penstock-local", f"--workers={workers}", "--params=1", f"--device={device}",
             f"--threads={max(1, (os.cpu_count() or 1) // workers)}", f"--dir={self.folder / 'cluster'}"],
            stdout=log, stderr=log)
        path = self.folder / "cluster" / "cluster.json"
        self.wait("the cluster", path.exists)
        self.address = json.loads(path.read_text())["coordinator"]

    def ctl(self, *words):
        command = [self.binaries / "penstockctl", "--coordinator", self.address, "-o", "json", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"penstockctl {' '.join(map(str, words))}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def wait(self, what, condition, limit=LIMIT_SECONDS):
        end = time.monotonic() + limit
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            if self.process.poll() is not None:
                raise RuntimeError(f"the cluster ended: {(self.folder / 'local.log').read_text()[-2000:]}")
            time.sleep(0.05)
        raise RuntimeError(f"no {what} within {limit} s")

    def submit(self, name, text):
        (self.folder / f"{name}.yaml").write_text(text)
        self.ctl("job", "submit", self.folder / f"{name}.yaml", "--detach")

    def finish(self, name, limit=LIMIT_SECONDS):
        """The job's record and history, when it has succeeded."""
        ended = {"SUCCEEDED", "FAILED", "CANCELLED"}
        shown = self.wait(f"end of {name}",
                          lambda: (lambda j: j if j["state"] in ended else None)(self.ctl("job", "show", name)), limit)
        if shown["state"] != "SUCCEEDED":
            raise RuntimeError(f"job {name} {shown['state']}: {shown['message']}")
        return shown, self.ctl("job", "history", name)

    def close(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)


@contextlib.contextmanager
def cluster(binaries, device, workers):
    with tempfile.TemporaryDirectory() as folder:
        running = Cluster(binaries, device, workers, folder)
        try:
            yield running
        finally:
            running.close()


def train_matrix(options, device):
    """Each row's digest and losses."""
    results = {}
    with cluster(options.bin, device, 4) as running:
        for index, row in enumerate(MATRIX):
            name = f"row-{index}"
            running.submit(name, job(name, SMALL, options.steps, 8, 2, row))
            shown, history = running.finish(name)
            results[row[0]] = (shown["digest"], [record["loss"] for record in history])
    return results


def parity(options):
    reference = train_matrix(options, options.reference)
    device = train_matrix(options, options.device)
    rows = []
    for row in MATRIX:
        ours, theirs = device[row[0]][1], reference[row[0]][1]
        errors = [abs(a - b) / abs(b) for a, b in zip(ours, theirs)]
        good = len(ours) == len(theirs) == options.steps and max(errors) <= TOLERANCE[row[1]]
        rows.append({"row": row[0], "passed": good, "worst": max(errors), "tolerance": TOLERANCE[row[1]],
                     "last_loss": ours[-1], "reference_last_loss": theirs[-1]})
    for one, other in SAME_DIGEST:
        rows.append({"row": f"digest: {one} = {other}", "passed": device[one][0] == device[other][0]})
    return {"passed": all(row["passed"] for row in rows), "rows": rows}


def kill(options):
    row = ("", "fp32", 2, 1, 1, 1, "service", None)
    steps = 4 * options.steps
    with cluster(options.bin, options.device, 3) as running:
        running.submit("whole", job("whole", SMALL, steps, 8, 2, row))
        whole, _ = running.finish("whole")
        running.submit("killed", job("killed", SMALL, steps, 8, 2, row))
        running.wait("some steps", lambda: running.ctl("job", "show", "killed")["step"] >= steps // 4)
        victim = next(w for w in running.ctl("worker", "list") if w["stage"] == 1)
        os.kill(victim["pid"], signal.SIGKILL)
        begun = time.monotonic()
        at = running.ctl("job", "show", "killed")["step"]
        running.wait("a step after the kill", lambda: running.ctl("job", "show", "killed")["step"] > at + 1)
        recovered = time.monotonic() - begun
        killed, _ = running.finish("killed")
    good = killed["recoveries"] >= 1 and killed["digest"] == whole["digest"] and killed["samples_repeated"] == 0
    return {"passed": good, "recoveries": killed["recoveries"], "same_digest": killed["digest"] == whole["digest"],
            "seconds_to_next_step": round(recovered, 2)}


TORCH = """
import json, sys, time, torch
from torch import nn
from torch.nn import functional as F
B, T, C, H, L, V, STEPS = json.loads(sys.argv[1])
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.proj = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.fc, self.out = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)
    def forward(self, x):
        q, k, v = (t.view(B, T, H, C // H).transpose(1, 2) for t in self.qkv(self.a(x)).split(C, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C)
        x = x + self.proj(y)
        return x + self.out(F.gelu(self.fc(self.b(x)), approximate="tanh"))
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(T, C)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(L)), nn.LayerNorm(C)
    def forward(self, x, y):
        h = self.wte(x) + self.wpe(torch.arange(T, device=x.device))
        for block in self.blocks:
            h = block(h)
        return F.cross_entropy((self.norm(h) @ self.wte.weight.T).view(-1, V), y.view(-1))
model = torch.compile(Model().cuda())
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
tokens = torch.randint(0, 256, (B, T + 1), device="cuda")
times = []
for step in range(STEPS + 5):
    torch.cuda.synchronize(); begin = time.perf_counter()
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step(); optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize(); times.append(time.perf_counter() - begin)
print(json.dumps(sorted(times[5:])[STEPS // 2]))
"""


def torch_step_seconds(batch, steps):
    """The median of PyTorch's compiled step in bf16 autocast; None where it isn't installed."""
    sizes = json.dumps([batch, 1024, 768, 12, 12, 50304, steps])
    done = subprocess.run([sys.executable, "-c", TORCH, sizes], capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def speed(options):
    batch, steps = options.batch, 20
    results = {"tokens_per_step": batch * 1024}
    for mirror in ["off", "on"]:
        row = ("", "bf16", 1, 1, 1, 1, "local", mirror)
        with cluster(options.bin, options.device, 1) as running:
            running.submit("speed", job("speed", GPT2_124M, steps, batch, batch, row))
            _, history = running.finish("speed", 1200)
        seconds = statistics.median(record["step_seconds"] for record in history[5:])
        results[f"mirror_{mirror}"] = {"step_seconds": seconds, "tokens_per_second": round(batch * 1024 / seconds)}
    torch = torch_step_seconds(batch, steps)
    if torch is not None:
        results["torch"] = {"step_seconds": torch, "tokens_per_second": round(batch * 1024 / torch)}
        results["ratio"] = round(torch / results["mirror_off"]["step_seconds"], 3)
    return {"passed": True, **results}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--reference", default="cpu")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=16, help="of speed, in samples of 1024 tokens")
    parser.add_argument("--only", default="parity,kill,speed")
    options = parser.parse_args()
    summary = {"device": options.device, "reference": options.reference}
    preflight = subprocess.run([pathlib.Path(options.bin) / "penstock-worker", "--preflight",
                                f"--device={options.device}", "-o=json"], capture_output=True, text=True, check=False)
    summary["preflight"] = json.loads(preflight.stdout) if preflight.returncode == 0 else preflight.stderr.strip()
    passed = preflight.returncode == 0
    for scenario in [parity, kill, speed]:
        if scenario.__name__ not in options.only.split(",") or preflight.returncode != 0:
            continue
        begin = time.monotonic()
        try:
            result = scenario(options)
        except RuntimeError as error:
            result = {"passed": False, "error": str(error)}
        result["seconds"] = round(time.monotonic() - begin, 1)
        summary[scenario.__name__] = result
        passed = passed and result["passed"]
    summary["passed"] = passed
    print(json.dumps(summary, indent=1))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
