"""How fast a card is with it: scenarios whose figures are seconds. See scenarios.py.

What a part has found out is noted at once: a later one that fails or hangs takes nothing with it.
"""
import csv
import json
import math
import os
import pathlib
import statistics

import machine
import processes
import torch_peers
from cluster import Failure, TimeIsOver, cluster, goal, job, why

# What a card's maker says of bf16 products, in FLOP/s: what others' MFU is a share of.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "4090": 165e12}
# layers, hidden, heads, tokens in a sample, vocabulary, and samples in a batch
SIZES = {"speed_124m": (12, 768, 12, 1024, 50304, 32), "speed_1b": (24, 2048, 16, 2048, 50304, 8)}
SMALL_SIZES = (2, 64, 2, 64, 256, 4)
# Relative, of losses in bf16: of the same weights, and after a few steps.
SAME_LOSS = 1e-3
SAME_LOSS_LATER = 2e-2
BENCH_SECONDS = 90
COUNTERS_SECONDS = 100
PEER_SECONDS = 180
# One pass over each kernel.
COUNTERS = ["gpu__time_duration.sum", "dram__bytes_read.sum", "dram__bytes_write.sum", "launch__grid_size",
            "launch__block_size", "launch__registers_per_thread", "launch__shared_mem_per_block_dynamic",
            "launch__waves_per_multiprocessor", "sm__warps_active.avg.pct_of_peak_sustained_active"]
# Columns that say the same of every kernel, or what its name is said to be once more.
BORING = {"ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream", "Device", "CC", None}


def step_seconds(history):
    """A step's median, without the first ones."""
    return statistics.median(record["step_seconds"] for record in history[5:])


def attempt(options, result, name, run):
    """result[name] = run(), or why not; the figures of other parts don't depend on it."""
    try:
        result[name] = run()
    except TimeIsOver:
        raise
    except (Failure, OSError, ValueError, KeyError, StopIteration) as error:
        result["passed"] = False
        result[name] = why(error)
    options.note(result)
    return result[name] if "error" not in result[name] else None


def bench_command(options, sizes):
    """tests/bench/device_kernels_bench, for the sizes of a speed."""
    _, hidden, heads, tokens, _, batch = sizes
    program = options.bench or pathlib.Path(options.bin).parent / "bench" / "device_kernels_bench"
    return [program, f"--device={options.device.removeprefix('cuda:')}", f"--hidden={hidden}", f"--heads={heads}",
            f"--seq_length={tokens}", f"--batch={batch}"]


def bench(options, sizes, *more):
    done = processes.run([*bench_command(options, sizes), *more], BENCH_SECONDS * options.limit)
    if not done.good:
        raise Failure(f"device_kernels_bench ends with {done.code}: {done.errors[-3000:]} {done.output[-1000:]}")
    return json.loads(done.output)


def operations(options):
    if options.device == "cpu":
        return {"passed": True, "skipped": "the kernels are a GPU's"}
    result = {"passed": True, "goals": []}
    for name, sizes in SIZES.items():
        measured = attempt(options, result, name, lambda sizes=sizes: bench(options, sizes))
        rates = {}
        for kernel in measured["kernels"] if measured else []:
            if "error" in kernel:
                result["passed"] = False
            elif "of_copy" in kernel and kernel["kernel"] != "copy":
                result["goals"].append(goal(f"{kernel['kernel']}, sizes of {name}: share of the copy's bandwidth",
                                            kernel["of_copy"], least=0.85))
            elif "tflops" in kernel:
                rates[kernel["kernel"]] = 1e12 * kernel["tflops"]
            elif kernel["kernel"] == "copy":
                result.setdefault("copy", 1e9 * kernel["gb_per_second"])
        if "product" in rates:
            result.setdefault("product", rates["product"])
        _, hidden, heads, tokens, _, batch = sizes
        peer = torch_peers.run(torch_peers.ATTENTION, json.dumps([batch, tokens, heads, hidden // heads]),
                               limit=60 * options.limit)
        result[name]["torch"] = peer
        theirs = peer.get("flash_attention", {})
        for kernel, rate in rates.items():
            if kernel in theirs:
                result["goals"].append(goal(f"{kernel}, sizes of {name}: share of FlashAttention's rate",
                                            rate / theirs[kernel], least=0.6))
        options.note(result)
    return result


def parse_counters(text):
    """ncu's csv: the rows of kernels as dictionaries, without their units' row."""
    lines = text.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith('"ID"'))
    rows = list(csv.DictReader(line for line in lines[begin:] if line.startswith('"')))
    return [{"kernel": row["Kernel Name"][:200],
             **{name: value for name, value in row.items() if name not in BORING and value}}
            for row in rows if row["ID"]]


def counters(options):
    """Each kernel of every operation by the card's own counters; and ours in all detail, into the log."""
    ncu = machine.tool("ncu")
    if options.device == "cpu" or not ncu:
        return {"passed": True, "skipped": "this machine has no ncu"}
    result = {"passed": True}
    # The card's clocks are left alone; each kernel finds nothing in the caches.
    always = [ncu, "--clock-control", "none", "--kernel-name-base", "demangled"]
    for name, sizes in SIZES.items():
        command = [*bench_command(options, sizes), "--once"]
        done = processes.run([*always, "--csv", "--page", "raw", "--print-units", "base", "--metrics",
                              ",".join(COUNTERS), *command], COUNTERS_SECONDS * options.limit)
        try:
            result[name] = parse_counters(done.output)
        except (StopIteration, KeyError) as error:
            result[name] = {"skipped": f"ncu ends with {done.code} {error}: {(done.output + done.errors)[-1500:]}"}
            options.note(result)
            break
        options.note(result)
        details = ["--set", "full", "--page", "details", "--kernel-name", "regex:penstock"]
        done = processes.run([*always, *details, *command], COUNTERS_SECONDS * options.limit)
        options.write_log(f"ncu, {name}", done.output + done.errors)
    return result


def flops_per_token(layers, hidden, tokens, vocabulary):
    """Forward and backward, attention counted as if nothing were masked (Chowdhery et al. 2022, as others' MFU)."""
    weights = layers * 12 * hidden * hidden + vocabulary * hidden
    return 6 * weights + 12 * layers * hidden * tokens


class Speed:
    """One model's speed."""

    def __init__(self, options, name):
        self.options = options
        self.sizes = SMALL_SIZES if options.small else SIZES[name]
        layers, hidden, heads, self.tokens, vocabulary, batch = self.sizes
        self.batch = options.batch or batch
        self.model = (f"{{family: gpt2, layers: {layers}, hidden: {hidden}, heads: {heads}, seq_length: {self.tokens}, "
                      f"vocab_size: {vocabulary}}}")
        self.steps = 40
        # What the mirror sends in a step of 1.3 billion parameters, 5 GB, is too much for one stream.
        self.shards = max(1, min(8, (os.cpu_count() or 1) // 2))

    def job(self, mirror, name="speed", micro=0, steps=0):
        row = ("", "bf16", 1, 1, 1, 1, "local", f"mirror: {mirror}")
        return job(name, self.model, steps or self.steps, self.batch, micro or self.batch, row, even=True)

    def check(self, running, history):
        """What large sizes alone get wrong: the same steps in small micro-batches have nearly the same losses."""
        steps, micro = 8, max(1, self.batch // 8)
        running.submit("apart", self.job("off", "apart", micro, steps))
        _, apart = running.finish("apart", 120)
        losses = [record["loss"] for record in history]
        pairs = [(a, record["loss"]) for a, record in zip(losses, apart)]
        errors = [abs(a - b) / b if math.isfinite(a) and math.isfinite(b) else math.inf for a, b in pairs]
        good = (all(map(math.isfinite, losses)) and losses[-1] < losses[0] and len(errors) == steps and
                errors[0] <= SAME_LOSS and max(errors) <= SAME_LOSS_LATER)
        return {"passed": good, "losses": losses, f"losses_in_micro_batches_of_{micro}": [b for _, b in pairs],
                "differences": errors, "tolerance": [SAME_LOSS, SAME_LOSS_LATER]}

    def train(self, mirror):
        before = machine.memory_used()
        with cluster(self.options.bin, self.options.device, 1, shards=self.shards) as running:
            running.submit("speed", self.job(mirror))
            plan = running.ctl("plan", running.folder / "speed.yaml")
            running.wait("some steps", lambda: running.show("speed")["step"] >= 3, 120)
            used = machine.memory_used()
            _, history = running.finish("speed", 240)
            kinds = running.metrics("penstock_worker_activity_seconds_total")
            check = self.check(running, history) if mirror == "off" else None
        seconds = step_seconds(history)
        planned = plan["workers"][0]["bytes"]["total"]
        return {"step_seconds": seconds, "tokens_per_second": round(self.batch * self.tokens / seconds),
                **({"check": check} if check else {}),
                "all_step_seconds": [round(record["step_seconds"], 5) for record in history],
                "planned_step_seconds": plan["step_seconds"], "planned_bytes": planned,
                "activity_seconds": {key.split('kind="')[-1].split('"')[0]: round(value, 4)
                                     for key, value in kinds.items() if value},
                # CUDA's context, kernels and libraries, for which the planner keeps 2 GB back.
                **({"unplanned_bytes": used - before - planned} if used is not None and before is not None else {})}

    def operations(self):
        """Where a step's time goes: each operation beside what the card's own rates would allow."""
        with cluster(self.options.bin, self.options.device, 1, shards=self.shards, operations=True) as running:
            running.submit("speed", self.job("off"))
            running.wait("some steps", lambda: running.show("speed")["step"] >= 3, 120)
            first = running.metrics("penstock_worker_operation_")
            _, history = running.finish("speed", 240)
            last = running.metrics("penstock_worker_operation_")
        return operation_table(first, last, self.steps, step_seconds(history), self.options)

    def torch(self):
        layers, hidden, heads, tokens, vocabulary, _ = self.sizes
        peer = torch_peers.run(torch_peers.TRAINING,
                               json.dumps([layers, hidden, heads, tokens, vocabulary, self.batch, self.steps]),
                               self.options.device, limit=PEER_SECONDS * self.options.limit)
        if "step_seconds" in peer:
            peer["tokens_per_second"] = round(self.batch * tokens / peer["step_seconds"])
        return peer


def operation_table(first, last, steps, seconds, options):
    """Rows of what the worker counted, the slowest against what is possible first.

    A call's time is that of the calls between the two looks: the first steps load and warm up.
    """
    def value(samples, field, operation):
        return samples.get(f'penstock_worker_operation_{field}_total{{operation="{operation}"}}', 0)

    names = [key.split('operation="')[1].split('"')[0] for key, calls in last.items()
             if "_calls_total{" in key and calls]
    rows = []
    for name in names:
        calls = value(last, "calls", name)
        since = {field: value(last, field, name) - value(first, field, name) for field in ("calls", "seconds")}
        if since["calls"] == 0:
            since = {field: value(last, field, name) for field in ("calls", "seconds")}
        each = since["seconds"] / max(since["calls"], 1)
        flops, moved = value(last, "flops", name) / calls, value(last, "bytes", name) / calls
        best = max(flops / options.product if options.product else 0, moved / options.copy if options.copy else 0)
        rows.append({"operation": name, "calls_per_step": round(calls / steps, 2), "us": round(1e6 * each, 2),
                     "ms_per_step": round(1e3 * each * calls / steps, 3),
                     **({"tflops": round(flops / each / 1e12, 1)} if flops and each else {}),
                     **({"gb_per_second": round(moved / each / 1e9)} if moved and each else {}),
                     **({"best_us": round(1e6 * best, 2),
                         "lost_ms_per_step": round(1e3 * (each - best) * calls / steps, 3)} if best else {})})
    rows.sort(key=lambda row: -row.get("lost_ms_per_step", row["ms_per_step"]))
    inside = sum(row["ms_per_step"] for row in rows)
    return {"step_ms": round(1e3 * seconds, 3), "operations_ms": round(inside, 3),
            "between_ms": round(1e3 * seconds - inside, 3), "rows": rows}


def speed(options, name):
    one = Speed(options, name)
    layers, hidden, _, tokens, vocabulary, _ = one.sizes
    result = {"passed": True, "tokens_per_step": one.batch * tokens, "shards": one.shards, "goals": []}
    off = attempt(options, result, "mirror_off", lambda: one.train("off"))
    peer = attempt(options, result, "torch", one.torch)
    if off:
        result["passed"] = result["passed"] and off["check"]["passed"]
        alone = off["step_seconds"]
        rate = flops_per_token(layers, hidden, tokens, vocabulary) * one.batch * tokens / alone
        result["flops_per_second"] = rate
        peak = next((flops for card, flops in PEAKS.items() if card in options.card), None)
        if peak is not None:
            least = 0.38 if name == "speed_124m" else 0.45
            result["goals"].append(goal("MFU of the maker's figure", rate / peak, least=least))
        if options.product:
            result["share_of_measured_product"] = round(rate / options.product, 3)
        if peer and "step_seconds" in peer:
            result["goals"].append(goal("tokens a second, times PyTorch's", peer["step_seconds"] / alone, least=1.0))
    attempt(options, result, "operations", one.operations)
    on = attempt(options, result, "mirror_on", lambda: one.train("on"))
    if off and on:
        result["goals"].append(goal("the mirror's share of the step", on["step_seconds"] / alone - 1, most=0.05))
    return result


def speed_124m(options):
    return speed(options, "speed_124m")


def speed_1b(options):
    return speed(options, "speed_1b")
