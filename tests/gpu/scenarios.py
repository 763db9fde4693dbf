#!/usr/bin/env python3
"""Training on a device against training on the CPU, what it does when a worker dies, how fast it is: one JSON object.

    tests/gpu/scenarios.py BIN [--device cuda:0] [--reference cpu] [--only kill,operations] [--small]

BIN is a bundle's folder bin/. Scenarios, one after the other, each in a process of its own with a time limit, so that
one that fails or hangs leaves the others alone; what it found out until then is kept:
  kill        kill -9 of one of the device's workers: the job goes on, to the digest of an undisturbed run
  operations  rates of a large copy, of an 8192-cubed bf16 product and of every operation, as shares of these two, and
              attention beside FlashAttention as PyTorch has it (bench/device_kernels_bench beside BIN)
  speed_124m  tokens a second of GPT-2 124M in bf16, with the mirror and without, and where a step's time goes,
              operation by operation; PyTorch's with torch.compile
  links       ranks that share the card over NCCL, each as if on a host of its own (NCCL_HOSTID): the digests that they
              have over the hosts' memories, and what a step takes with determinism: strict and fast
  parity      a small GPT-2 in fp32 and bf16, with both placements, pipelines and data ranks: the losses of all steps
              against the reference's, within 1e-4 (fp32) and 2e-2 (bf16) relative, and the device's digest the same for
              both depths
  speed_1b    as speed_124m, of a GPT with 1.3 billion parameters
  counters    every kernel by the card's counters, where Nsight Compute (ncu) is and may read them
Clusters are real ones; several workers share the device. Where PyTorch isn't installed its figures are missing. `goals`
has each figure that was set out for, and whether it is met; a goal that isn't met is no failure. With --device cpu
--small the program checks itself.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

import cluster as clusters
import processes
import speeds
from cluster import Failure, TimeIsOver, cluster, goal, job, why

TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
# name, precision, pipeline, data, tensor, zero stage, placement, more of zero
MATRIX = [
    ("fp32", "fp32", 1, 1, 1, 1, "service", None),
    ("fp32, two stages", "fp32", 2, 1, 1, 1, "service", None),
    ("fp32, two data ranks", "fp32", 1, 2, 1, 1, "service", None),
    ("fp32, ZeRO 2", "fp32", 2, 2, 1, 2, "service", None),
    ("fp32, two tensor ranks", "fp32", 1, 1, 2, 1, "service", None),
    ("fp32, ranks update, mirror", "fp32", 2, 2, 1, 1, "local", "mirror: on"),
    ("fp32, ranks update", "fp32", 1, 2, 1, 1, "local", "mirror: off"),
    ("bf16", "bf16", 1, 1, 1, 1, "service", None),
    ("bf16, ranks update, mirror", "bf16", 2, 1, 1, 1, "local", "mirror: on"),
    ("fp32, ranks update, offloaded", "fp32", 1, 2, 1, 1, "local", "mirror: off, offload: host"),
    ("bf16, ZeRO 2, offloaded, mirror", "bf16", 2, 2, 1, 2, "local", "mirror: on, offload: host"),
]
# Rows whose digests have to be the same: neither the pipeline nor who updates, nor where, changes a bit.
SAME_DIGEST = [
    ("fp32", "fp32, two stages"),
    ("fp32, two data ranks", "fp32, ranks update"),
    ("fp32, two data ranks", "fp32, ranks update, offloaded"),
]

SMALL = "{family: gpt2, layers: 4, hidden: 128, heads: 4, seq_length: 64, vocab_size: 256}"
LINKED_SPEED = "{family: gpt2, layers: 4, hidden: 768, heads: 12, seq_length: 512, vocab_size: 256}"
# Of `links`: rows as in MATRIX, all of four ranks at most.
LINKED = [
    ("two stages, two data ranks, ZeRO 2", "fp32", 2, 2, 1, 2, "service", None),
    ("two stages, two data ranks, mirror", "bf16", 2, 2, 1, 1, "local", "mirror: on"),
    ("two tensor ranks, two stages", "fp32", 2, 1, 2, 1, "service", None),
]


def train(options, device, tasks, workers, **how):
    """{name: job's record and history, or why there is none} of (name, job's text); yields what there is after each.

    A job that fails may leave workers without a device, so the next one gets a cluster of its own.
    """
    results, waiting = {}, list(tasks)
    while waiting:
        try:
            with cluster(options.bin, device, workers, **how) as running:
                while waiting:
                    name, text = waiting.pop(0)
                    results[name] = {"error": "not begun"}
                    running.submit(name, text)
                    shown, history = running.finish(name)
                    results[name] = {"digest": shown["digest"], "losses": [record["loss"] for record in history],
                                     "step_seconds": speeds.step_seconds(history)}
                    yield results
        except TimeIsOver:
            raise
        except (Failure, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            failed = why(error)
            unknown = [name for name, result in results.items() if result == {"error": "not begun"}]
            for name in unknown:
                results[name] = failed
            if not unknown:  # the cluster's own: another wouldn't do better
                first = waiting[0][0]
                results.update({name: failed if name == first else {"error": f"as {first}"} for name, _ in waiting})
                waiting = []
            yield results


def compare(row, ours, theirs, steps):
    """A row of parity's table."""
    if "error" in ours or "error" in theirs:
        return {"row": row[0], "passed": False, "device": ours if "error" in ours else "trained",
                "reference": theirs if "error" in theirs else "trained"}
    a, b = ours["losses"], theirs["losses"]
    errors = [abs(x - y) / abs(y) for x, y in zip(a, b)]
    bound = TOLERANCE[row[1]]
    # A NaN is no number that is small enough.
    passed = len(a) == len(b) == steps and all(error <= bound for error in errors)
    return {"row": row[0], "passed": passed, "worst": max(errors), "tolerance": bound, "last_loss": a[-1],
            "reference_last_loss": b[-1], **({} if passed else {"losses": a[:5] + a[-5:], "reference": b[:5] + b[-5:]})}


def parity(options):
    tasks = [(f"row-{index}", job(f"row-{index}", SMALL, options.steps, 8, 2, row)) for index, row in enumerate(MATRIX)]

    def rows(device, reference):
        pairs = [(row, device.get(f"row-{index}"), reference.get(f"row-{index}")) for index, row in enumerate(MATRIX)]
        return [compare(row, ours, theirs, options.steps) for row, ours, theirs in pairs if ours and theirs]

    found = {"device": {}, "reference": {}}

    def follow(kind, where):
        for results in train(options, where, tasks, 4):
            found[kind] = results
            options.note({"passed": False, "rows": rows(found["device"], found["reference"])})
        return found[kind]

    # The reference has the processors, the device its own: together they take half as long.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(follow, "reference", options.reference)
        device = follow("device", options.device)
        reference = waiting.result()
    table = rows(device, reference)
    digests = {row[0]: device[f"row-{index}"].get("digest") for index, row in enumerate(MATRIX)}
    for one, other in SAME_DIGEST:
        same = digests[one] is not None and digests[one] == digests[other]
        table.append({"row": f"digest: {one} = {other}", "passed": same})
    return {"passed": all(row["passed"] for row in table), "rows": table}


def kill(options):
    row = ("", "fp32", 2, 1, 1, 1, "service", None)
    # Some are left when the worker has been found and killed, however fast they are.
    steps = 10 * options.steps
    with cluster(options.bin, options.device, 3) as running:
        running.submit("whole", job("whole", SMALL, steps, 8, 2, row))
        whole, _ = running.finish("whole")
        options.note({"passed": False, "undisturbed": whole["digest"]})
        running.submit("killed", job("killed", SMALL, steps, 8, 2, row))
        running.wait("some steps", lambda: running.show("killed")["step"] >= steps // 4)
        victim = next(w for w in running.ctl("worker", "list") if w["stage"] == 1)
        os.kill(victim["pid"], signal.SIGKILL)
        begun = time.monotonic()
        at = running.show("killed")["step"]
        running.wait("a step after the kill", lambda: running.show("killed")["step"] > at + 1)
        recovered = time.monotonic() - begun
        killed, _ = running.finish("killed")
    good = killed["recoveries"] >= 1 and killed["digest"] == whole["digest"] and killed["samples_repeated"] == 0
    return {"passed": good, "recoveries": killed["recoveries"], "same_digest": killed["digest"] == whole["digest"],
            "seconds_to_next_step": round(recovered, 2)}


def links(options):
    """A device's alone: the CPU has no NCCL, so it shows the program alone, over the hosts' memories twice."""
    tasks = [(f"row-{index}", job(f"row-{index}", SMALL, options.steps, 8, 2, row)) for index, row in enumerate(LINKED)]
    for determinism in ["strict", "fast"]:
        row = ("", "bf16", 1, 4, 1, 1, "local", "mirror: off")
        model = SMALL if options.small else LINKED_SPEED
        tasks.append((determinism, job(determinism, model, 20, 8, 2, row, determinism)))
    found = {}
    for way in ["host", "nccl" if options.device != "cpu" else "auto"]:
        for results in train(options, options.device, tasks, 4, links=way):
            found[way] = results
            options.note({"passed": False, "so_far": found})
    (host, nccl) = found.values()
    rows = [{"row": row[0], "passed": "digest" in host[name] and host[name]["digest"] == nccl[name].get("digest"),
             **{way: results[name] for way, results in found.items() if "error" in results[name]}}
            for row, (name, _) in zip(LINKED, tasks)]
    times = {f"{way}, {determinism}": results[determinism].get("step_seconds", results[determinism])
             for way, results in found.items() for determinism in ("strict", "fast")}
    result = {"passed": all(row["passed"] for row in rows) and all("error" not in results[name]
                                                                   for results in found.values() for name, _ in tasks),
              "rows": rows, "step_seconds": times, "goals": []}
    if "error" not in nccl["strict"] and "error" not in nccl["fast"]:
        cost = nccl["strict"]["step_seconds"] / nccl["fast"]["step_seconds"] - 1
        result["goals"].append(goal("what strict sums cost, four data ranks on one card", cost, most=0.03))
    return result


# In the order of a first hour with a card: what says most in the shortest time comes first. The most seconds of each,
# on a card: what hangs takes no more from the others.
SCENARIOS = {kill: 100, speeds.operations: 240, speeds.speed_124m: 300, links: 180, parity: 180, speeds.speed_1b: 420,
             speeds.counters: 240}


def run_apart(scenario, limit, arguments, log=lambda title, text: None):
    """The scenario in a process of its own, which is ended with all that it started when its time is over."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        note, words = pathlib.Path(folder) / "note.json", pathlib.Path(folder) / "log"
        done = processes.run([sys.executable, __file__, *arguments, f"--child={scenario.__name__}", f"--note={note}",
                              f"--log={words}"], limit)
        try:
            result = json.loads(done.output)
        except json.JSONDecodeError:
            why = f"not done within {limit:.0f} s" if done.code == "timeout" else f"ends with {done.code}"
            try:
                result = json.loads(note.read_text())
            except (OSError, ValueError):
                result = {}
            result = {**result, "passed": False, "error": "; ".join(filter(None, [result.get("error"), why])),
                      "said": (done.errors + done.output)[-4000:]}
        if words.exists():
            log(scenario.__name__, processes.read(words))
    result["seconds"] = done.seconds
    if done.left_behind:
        result["left_behind"] = done.left_behind
    return result


class Session:
    """Runs scenarios and keeps what later ones need of earlier ones."""

    PREFLIGHT_SECONDS = 90

    def __init__(self, options, arguments, log=lambda title, text: None):
        """`arguments`: what `options` were parsed from."""
        self.options = options
        self.arguments = list(arguments)
        self.log = log
        worker = pathlib.Path(options.bin) / "penstock-worker"
        done = processes.run([worker, "--preflight", f"--device={options.device}", "-o=json"],
                             self.PREFLIGHT_SECONDS * options.limit)
        self.ready = done.good
        self.preflight = json.loads(done.output) if done.good else f"{done.code}: {(done.errors + done.output).strip()}"
        self.preflight_seconds = done.seconds
        if self.ready:
            self.arguments.append(f"--card={self.preflight.get('name', '')}")
            # Until they are measured better.
            self.keep("product", self.preflight.get("bf16_flops_per_second", 0))
            self.keep("copy", self.preflight.get("memory_bytes_per_second", 0))

    def keep(self, name, value):
        self.arguments.append(f"--{name}={value}")

    def run(self, name, left=float("inf")):
        """The scenario's result, after `left` seconds at most."""
        if not self.ready:
            return {"passed": False, "error": f"the worker doesn't start: {self.preflight}"}
        scenario = next(scenario for scenario in SCENARIOS if scenario.__name__ == name)
        result = run_apart(scenario, min(left, self.options.limit * SCENARIOS[scenario]), self.arguments, self.log)
        for measured in ("product", "copy"):
            if measured in result:
                self.keep(measured, result[measured])
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
    # What the parent has found out, and where it looks for what the child has.
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--card", default="", help=argparse.SUPPRESS)
    parser.add_argument("--product", type=float, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--copy", type=float, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--note", default="", help=argparse.SUPPRESS)
    parser.add_argument("--log", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = set(options.only.split(",")) - {scenario.__name__ for scenario in SCENARIOS}
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are "
                     f"{', '.join(scenario.__name__ for scenario in SCENARIOS)}")
    return options


def child(options):
    scenario = next(scenario for scenario in SCENARIOS if scenario.__name__ == options.child)
    noted, lock, kept = {}, threading.Lock(), (options.note, options.log)

    def note(result):
        """Keeps what is known, should this process end before it is done."""
        with lock:
            noted.update(result)
            draft = pathlib.Path(kept[0] + ".new")
            draft.write_text(json.dumps(noted))
            draft.replace(kept[0])

    def write_log(title, text):
        with open(kept[1], "a", encoding="utf-8") as log:
            log.write(f"==== {title}\n{text}\n")

    def is_over(*_):
        raise TimeIsOver("its time is over")

    options.note, options.write_log = note, write_log
    clusters.scale[0] = options.limit
    clusters.on_failure[0] = lambda error: note(why(error))
    signal.signal(signal.SIGTERM, is_over)  # clusters are closed on the way out
    try:
        result = scenario(options)
    except Exception as error:  # pylint: disable=broad-except
        result = {**noted, "passed": False, **why(error)}
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
