#!/usr/bin/env python3
"""Training on a device against training on the CPU, what it does when a worker dies, and how fast it is: one JSON object.

    tests/gpu/scenarios.py BIN [--device cuda:0] [--reference cpu] [--only kill,operations] [--small]

BIN is a bundle's folder bin/. Scenarios, one after the other, each in a process of its own with a time limit, so that
one that fails or hangs leaves the others alone:
  kill        kill -9 of one of the device's workers: the job goes on, to the digest of an undisturbed run
  operations  rates of a large copy, of an 8192-cubed bf16 product and of every operation, as shares of these two, and
              attention beside FlashAttention as PyTorch has it (bench/device_kernels_bench beside BIN)
  speed_124m  tokens a second of GPT-2 124M in bf16, with the mirror and without; PyTorch's with torch.compile
  speed_1b    the same of a GPT with 1.3 billion parameters
  links       ranks that share the card over NCCL, each as if on a host of its own (NCCL_HOSTID): the digests that they
              have over the hosts' memories, and what a step takes with determinism: strict and fast
  parity      a small GPT-2 in fp32 and bf16, with both placements, pipelines and data ranks: the losses of all steps
              against the reference's, within 1e-4 (fp32) and 2e-2 (bf16) relative, and the device's digest the same for
              both depths
Clusters are real ones; several workers share the device. Where PyTorch isn't installed its figures are missing. `goals`
has each figure that was set out for, and whether it is met; a goal that isn't met is no failure. With --device cpu
--small the program checks itself.
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

import torch_peers

LIMIT_SECONDS = 300
# What a card's maker says of bf16 products, in FLOP/s: what others' MFU is a share of.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "4090": 165e12}
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
# layers, hidden, heads, tokens in a sample, vocabulary, and samples in a batch
SIZES = {"speed_124m": (12, 768, 12, 1024, 50304, 32), "speed_1b": (24, 2048, 16, 2048, 50304, 8)}
SMALL_SIZES = (2, 64, 2, 64, 256, 4)
LINKED_SPEED = "{family: gpt2, layers: 4, hidden: 768, heads: 12, seq_length: 512, vocab_size: 256}"
# Of `links`: rows as in MATRIX, all of four ranks at most.
LINKED = [
    ("two stages, two data ranks, ZeRO 2", "fp32", 2, 2, 1, 2, "service", None),
    ("two stages, two data ranks, mirror", "bf16", 2, 2, 1, 1, "local", "on"),
    ("two tensor ranks, two stages", "fp32", 2, 1, 2, 1, "service", None),
]


def job(name, model, steps, batch, micro, row, determinism="strict"):
    """A job file's text; `row` as in MATRIX."""
    _, precision, pipeline, data, tensor, stage, placement, mirror = row
    zero = f"stage: {stage}, placement: {placement}" + (f", mirror: {mirror}" if mirror else "")
    return f"""
name: {name}
model: {model}
data: {{path: corpus.txt, format: bytes}}
training: {{steps: {steps}, global_batch_size: {batch}, micro_batch_size: {micro}, precision: {precision}, seed: 1,
           determinism: {determinism}}}
optimizer: {{type: adamw, learning_rate: 1e-3, weight_decay: 0.1, grad_clip: 1.0}}
parallel: {{data: {data}, tensor: {tensor}, pipeline: {pipeline}, zero: {{{zero}}}}}
"""


class Cluster:
    """A local cluster whose workers compute on `device`; jobs are submitted from its own folder."""

    def __init__(self, binaries, device, workers, folder, links="auto", shards=1):
        self.binaries = pathlib.Path(binaries)
        self.folder = pathlib.Path(folder)
        text = "".join(f"All work and no play makes Jack number {i} a dull boy.\n" for i in range(4000))
        (self.folder / "corpus.txt").write_text(text)
        self.log = open(self.folder / "local.log", "w", encoding="utf-8")
        self.threads = max(1, (os.cpu_count() or 1) // workers)
        # Where NCCL is to connect workers that share a card, each of them needs an environment of its own.
        apart = links == "nccl"
        self.process = subprocess.Popen(
            [self.binaries / "penstock-local", f"--workers={1 if apart else workers}", f"--params={shards}",
             f"--device={device}", f"--device_links={links}", f"--threads={self.threads}",
             f"--dir={self.folder / 'cluster'}"],
            stdout=self.log, stderr=self.log, env=self.environment(0))
        self.others = []
        path = self.folder / "cluster" / "cluster.json"
        self.wait("the cluster", path.exists)
        self.address = json.loads(path.read_text())["coordinator"]
        if apart:
            self.others = [self.start_worker(index, device) for index in range(1, workers)]
            self.wait("the other workers", lambda: len(self.ctl("worker", "list")) == workers)

    @staticmethod
    def environment(index):
        return {"NCCL_HOSTID": f"penstock-{index}", "NCCL_IB_DISABLE": "1", **os.environ}

    def start_worker(self, index, device):
        command = [self.binaries / "penstock-worker", f"--id=worker-{index}", f"--coordinator={self.address}",
                   f"--device={device}", "--device_links=nccl", f"--threads={self.threads}"]
        return subprocess.Popen(command, stdout=self.log, stderr=self.log, env=self.environment(index))

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
        for process in [*self.others, self.process]:
            process.send_signal(signal.SIGINT)
        for process in [*self.others, self.process]:
            process.wait(timeout=60)


@contextlib.contextmanager
def cluster(binaries, device, workers, **options):
    with tempfile.TemporaryDirectory() as folder:
        running = Cluster(binaries, device, workers, folder, **options)
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


def step_seconds(history):
    """A step's median, without the first ones."""
    return statistics.median(record["step_seconds"] for record in history[5:])


def links(options):
    """A device's alone: the CPU has no NCCL, so it shows the program alone, over the hosts' memories twice."""
    nccl = "nccl" if options.device != "cpu" else "auto"
    digests, times = {}, {}
    for way in ["host", nccl]:
        with cluster(options.bin, options.device, 4, links=way) as running:
            for index, row in enumerate(LINKED):
                running.submit(f"row-{index}", job(f"row-{index}", SMALL, options.steps, 8, 2, row))
                digests[way, row[0]] = running.finish(f"row-{index}")[0]["digest"]
            for determinism in ["strict", "fast"]:
                row = ("", "bf16", 1, 4, 1, 1, "local", "off")
                running.submit(determinism, job(determinism, SMALL if options.small else LINKED_SPEED, 20, 8, 2, row,
                                                determinism))
                times[way, determinism] = step_seconds(running.finish(determinism)[1])
    rows = [{"row": row[0], "passed": digests["host", row[0]] == digests[nccl, row[0]]} for row in LINKED]
    cost = times[nccl, "strict"] / times[nccl, "fast"] - 1
    return {"passed": all(row["passed"] for row in rows), "rows": rows,
            "step_seconds": {f"{way}, {determinism}": value for (way, determinism), value in times.items()},
            "goals": [goal("what strict sums cost, four data ranks on one card", cost, most=0.03)]}


def goal(name, value, least=None, most=None):
    """One figure that was set out for."""
    met = (least is None or value >= least) and (most is None or value <= most)
    return {"name": name, "value": round(value, 4), **({"at_least": least} if least is not None else {}),
            **({"at_most": most} if most is not None else {}), "met": met}


def bench(options, sizes):
    """tests/bench/device_kernels_bench's object, for the sizes of a speed."""
    _, hidden, heads, tokens, _, batch = sizes
    program = options.bench or pathlib.Path(options.bin).parent / "bench" / "device_kernels_bench"
    command = [program, f"--device={options.device.removeprefix('cuda:')}", f"--hidden={hidden}", f"--heads={heads}",
               f"--seq_length={tokens}", f"--batch={batch}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RuntimeError(f"no device_kernels_bench: {error}") from error
    if done.returncode != 0:
        raise RuntimeError(f"device_kernels_bench: {done.stderr[-1000:]}")
    return json.loads(done.stdout)


def operations(options):
    if options.device == "cpu":
        return {"passed": True, "skipped": "the kernels are a GPU's"}
    result = {"passed": True, "goals": []}
    for name, sizes in SIZES.items():
        measured = bench(options, sizes)
        result[name] = measured
        rates = {}
        for kernel in measured["kernels"]:
            if "of_copy" in kernel and kernel["kernel"] != "copy":
                result["goals"].append(goal(f"{kernel['kernel']}, sizes of {name}: share of the copy's bandwidth",
                                            kernel["of_copy"], least=0.85))
            elif "tflops" in kernel:
                rates[kernel["kernel"]] = 1e12 * kernel["tflops"]
        result.setdefault("product", rates.get("product", 0))
        _, hidden, heads, tokens, _, batch = sizes
        peer = torch_peers.run(torch_peers.ATTENTION, json.dumps([batch, tokens, heads, hidden // heads]), limit=300)
        measured["torch"] = peer
        theirs = peer.get("flash_attention", {})
        for kernel, rate in rates.items():
            if kernel in theirs:
                result["goals"].append(goal(f"{kernel}, sizes of {name}: share of FlashAttention's rate",
                                            rate / theirs[kernel], least=0.6))
    return result


def flops_per_token(layers, hidden, tokens, vocabulary):
    """Forward and backward, attention counted as if nothing were masked (Chowdhery et al. 2022, as others' MFU)."""
    weights = layers * 12 * hidden * hidden + vocabulary * hidden
    return 6 * weights + 12 * layers * hidden * tokens


def memory_used():
    """Bytes that all processes together have of the first card, by nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return int(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout) << 20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def speed(options, name):
    layers, hidden, heads, tokens, vocabulary, batch = SMALL_SIZES if options.small else SIZES[name]
    batch = options.batch or batch
    model = (f"{{family: gpt2, layers: {layers}, hidden: {hidden}, heads: {heads}, seq_length: {tokens}, "
             f"vocab_size: {vocabulary}}}")
    steps = 40
    # What the mirror sends in a step of 1.3 billion parameters, 5 GB, is too much for one stream.
    shards = max(1, min(8, (os.cpu_count() or 1) // 2))
    result = {"passed": True, "tokens_per_step": batch * tokens, "shards": shards, "goals": []}
    before = memory_used()
    for mirror in ["off", "on"]:
        row = ("", "bf16", 1, 1, 1, 1, "local", mirror)
        with cluster(options.bin, options.device, 1, shards=shards) as running:
            running.submit("speed", job("speed", model, steps, batch, batch, row))
            plan = running.ctl("plan", running.folder / "speed.yaml")
            running.wait("some steps", lambda: running.ctl("job", "show", "speed")["step"] >= 3, 600)
            used = memory_used()
            _, history = running.finish("speed", 1200)
        seconds = step_seconds(history)
        result[f"mirror_{mirror}"] = {
            "step_seconds": seconds, "tokens_per_second": round(batch * tokens / seconds),
            "planned_step_seconds": plan["step_seconds"], "planned_bytes": plan["workers"][0]["bytes"]["total"],
            # CUDA's context, kernels and libraries, for which the planner keeps 1.25 GB back.
            **({"unplanned_bytes": used - before - plan["workers"][0]["bytes"]["total"]} if used is not None and before is not None else {})}
    alone = result["mirror_off"]["step_seconds"]
    result["goals"].append(goal("the mirror's share of the step", result["mirror_on"]["step_seconds"] / alone - 1, most=0.05))
    rate = flops_per_token(layers, hidden, tokens, vocabulary) * batch * tokens / alone
    result["flops_per_second"] = rate
    peak = next((flops for card, flops in PEAKS.items() if card in options.card), None)
    if peak is not None:
        result["goals"].append(goal("MFU of the maker's figure", rate / peak, least=0.38 if name == "speed_124m" else 0.45))
    if options.product:
        result["share_of_measured_product"] = round(rate / options.product, 3)
    peer = torch_peers.run(torch_peers.TRAINING, json.dumps([layers, hidden, heads, tokens, vocabulary, batch, steps]), options.device)
    result["torch"] = peer
    if "step_seconds" in peer:
        peer["tokens_per_second"] = round(batch * tokens / peer["step_seconds"])
        result["goals"].append(goal("tokens a second, times PyTorch's", peer["step_seconds"] / alone, least=1.0))
    return result


def speed_124m(options):
    return speed(options, "speed_124m")


def speed_1b(options):
    return speed(options, "speed_1b")


# In the order of a first hour with a card: what says most in the shortest time comes first. Limits in seconds.
SCENARIOS = {kill: 300, operations: 600, speed_124m: 1200, speed_1b: 1800, links: 1200, parity: 2400}


def run_apart(scenario, limit, arguments):
    """The scenario in a process of its own, which is ended with all that it started when its time is over."""
    begin = time.monotonic()
    command = [sys.executable, __file__, *arguments, f"--child={scenario.__name__}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as child:
        try:
            output, errors = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
            output, errors = "", f"not done within {limit} s"
    try:
        result = json.loads(output)
    except json.JSONDecodeError:
        result = {"passed": False, "error": errors[-4000:]}
    result["seconds"] = round(time.monotonic() - begin, 1)
    return result


class Session:
    """Runs scenarios and keeps what later ones need of earlier ones."""

    def __init__(self, options, arguments):
        """`arguments`: what `options` were parsed from."""
        self.options = options
        self.arguments = list(arguments)
        command = [pathlib.Path(options.bin) / "penstock-worker", "--preflight", f"--device={options.device}", "-o=json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)
        self.ready = done.returncode == 0
        self.preflight = json.loads(done.stdout) if self.ready else done.stderr.strip()
        if self.ready:
            self.arguments.append(f"--card={self.preflight.get('name', '')}")

    def run(self, name, left=float("inf")):
        """The scenario's result, after `left` seconds at most."""
        if not self.ready:
            return {"passed": False, "error": f"the worker doesn't start: {self.preflight}"}
        scenario = next(scenario for scenario in SCENARIOS if scenario.__name__ == name)
        result = run_apart(scenario, min(left, self.options.limit * SCENARIOS[scenario]), self.arguments)
        if "product" in result:
            self.arguments.append(f"--product={result['product']}")
        return result


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--reference", default="cpu")
    parser.add_argument("--steps", type=int, default=50, help="of each row of parity")
    parser.add_argument("--batch", type=int, default=0, help="samples in a step of the speeds, in place of their own")
    parser.add_argument("--small", action="store_true", help="sizes that a CPU gets done")
    parser.add_argument("--limit", type=float, default=1, help="factor for all time limits")
    parser.add_argument("--bench", default="", help="device_kernels_bench, where it isn't beside BIN")
    parser.add_argument("--only", default=",".join(scenario.__name__ for scenario in SCENARIOS))
    # What the parent has found out.
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--card", default="", help=argparse.SUPPRESS)
    parser.add_argument("--product", type=float, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = set(options.only.split(",")) - {scenario.__name__ for scenario in SCENARIOS}
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are "
                     f"{', '.join(scenario.__name__ for scenario in SCENARIOS)}")
    return options


def child(options):
    scenario = next(scenario for scenario in SCENARIOS if scenario.__name__ == options.child)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # clusters are closed on the way out
    try:
        result = scenario(options)
    except (RuntimeError, OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
        result = {"passed": False, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(result))
    return 0


def main():
    options = parse(sys.argv[1:])
    if options.child:
        return child(options)
    session = Session(options, sys.argv[1:])
    summary = {"device": options.device, "reference": options.reference, "preflight": session.preflight,
               "passed": session.ready, "goals": {}}
    for name in (scenario.__name__ for scenario in SCENARIOS if scenario.__name__ in options.only.split(",")):
        result = summary[name] = session.run(name)
        summary["passed"] = summary["passed"] and result["passed"]
        if "goals" in result:
            summary["goals"][name] = result["goals"]
        # What is known so far, should the machine go away.
        print(json.dumps({name: result}), file=sys.stderr, flush=True)
    print(json.dumps(summary, indent=1))
    return 0 if summary["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
