#!/usr/bin/env python3
"""How long a job stands still when a worker is killed, on a real local cluster with a spare worker.

    bazel build //... && tests/bench/recovery_bench.py [--runs 7] [--binaries bazel-bin]

For each run: kill -9 of a worker that runs the job, and the time from there until the job has committed its next step,
asked of the coordinator every few milliseconds. Prints JSON: seconds of each run, their median, what a step takes.
"""
import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

JOB = """
name: recovery
model: {family: gpt2, layers: 4, hidden: 64, heads: 2, seq_length: 64, vocab_size: 256}
data: {path: corpus.txt, format: bytes}
training: {steps: 100000, global_batch_size: 8, micro_batch_size: 4, precision: fp32, seed: 1}
optimizer: {type: adamw, learning_rate: 1e-3}
parallel: {data: 1, pipeline: 2, zero: {stage: 1}}
"""
LIMIT_SECONDS = 60


def ctl(binaries, address, *words):
    command = [f"{binaries}/services/client/penstockctl", "--coordinator", address, "-o", "json", *words]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def wait_for(what, condition):
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    sys.exit(f"recovery_bench: no {what} within {LIMIT_SECONDS} s")


def one_run(binaries, folder):
    """Seconds from the kill to the first new step, seconds from the kill until the loss was known, seconds of a step."""
    cluster = subprocess.Popen(
        [f"{binaries}/deploy/local/penstock-local", "--workers", "3", "--params", "2", "--threads", "1", "--dir",
         f"{folder}/cluster"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        path = pathlib.Path(folder, "cluster", "cluster.json")
        wait_for("cluster", path.exists)
        address = json.loads(path.read_text())["coordinator"]
        ctl(binaries, address, "job", "submit", f"{folder}/job.yaml", "--detach")
        show = lambda: ctl(binaries, address, "job", "show", "recovery")
        wait_for("step 20", lambda: show()["step"] >= 20)
        victim = next(w for w in ctl(binaries, address, "worker", "list") if w["stage"] == 1)
        killed = time.monotonic()
        os.kill(victim["pid"], signal.SIGKILL)
        # Reports of steps that were committed before the kill still come in until the recovery begins.
        begun = wait_for("recovery", lambda: (lambda job: job if job["recoveries"] > 0 else None)(show()))
        known = time.monotonic() - killed
        after = wait_for("step after the recovery", lambda: (lambda job: job if job["step"] > begun["step"] else None)(show()))
        return time.monotonic() - killed, known, after["step_seconds"]
    finally:
        cluster.send_signal(signal.SIGINT)
        cluster.wait(timeout=LIMIT_SECONDS)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--binaries", default="bazel-bin")
    options = parser.parse_args()
    runs = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "corpus.txt").write_text("All work and no play makes Jack a dull boy.\n" * 500)
            pathlib.Path(folder, "job.yaml").write_text(JOB)
            runs.append(one_run(os.path.abspath(options.binaries), folder))
    recovered, known, step = zip(*runs)
    print(json.dumps({
        "recovery_seconds": {"median": statistics.median(recovered), "runs": recovered},
        "until_the_loss_is_known_seconds": {"median": statistics.median(known), "runs": known},
        "step_seconds": {"median": statistics.median(step), "runs": step},
    }, indent=2))


if __name__ == "__main__":
    main()
