#!/usr/bin/env python3
"""How long a job stands still when a process is killed, on a real local cluster with a spare worker.

    bazel build //... && tests/bench/recovery_bench.py [--victim worker|coordinator|shard] [--runs 7]
        [--binaries bazel-bin]

For each run: kill -9 of a worker that runs the job, of the coordinator or of a parameter shard (those two are started
again), and the time from there until the job has committed its next step, asked of the coordinator every few
milliseconds. A lost shard takes its memory along: the next step is one after the last checkpoint. Prints JSON: seconds
of each run, their median, what a step takes.
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
checkpoint: {directory: checkpoints, every_steps: 10}
"""
LIMIT_SECONDS = 60


def ctl(binaries, address, *words):
    command = [f"{binaries}/services/client/penstockctl", "--coordinator", address, "-o", "json", *words]
    answer = subprocess.run(command, capture_output=True, text=True)
    # The coordinator may just be away.
    return json.loads(answer.stdout) if answer.returncode == 0 else None


def wait_for(what, condition):
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    sys.exit(f"recovery_bench: no {what} within {LIMIT_SECONDS} s")


def one_run(binaries, folder, victim):
    """Seconds from the kill to the first new step, seconds from the kill until the loss was known, seconds of a step."""
    cluster = subprocess.Popen(
        [f"{binaries}/deploy/local/penstock-local", "--workers", "3", "--params", "2", "--threads", "1", "--dir",
         f"{folder}/cluster"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        path = pathlib.Path(folder, "cluster", "cluster.json")
        wait_for("cluster", path.exists)
        members = json.loads(path.read_text())
        address = members["coordinator"]
        wait_for("submission", lambda: ctl(binaries, address, "job", "submit", f"{folder}/job.yaml", "--detach"))
        show = lambda: ctl(binaries, address, "job", "show", "recovery")
        when = lambda true: (lambda job: job if job is not None and true(job) else None)(show())
        wait_for("step 25", lambda: when(lambda job: job["step"] >= 25))
        workers = ctl(binaries, address, "worker", "list")
        pid = {"worker": next(w["pid"] for w in workers if w["stage"] == 1), "coordinator": members["pids"]["coordinator"],
               "shard": members["pids"]["params"][0]}[victim]
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        # Reports of steps that were committed before the kill still come in until the recovery begins. A coordinator's
        # loss is no recovery of the job.
        begun = wait_for("recovery", lambda: when(lambda job: victim == "coordinator" or job["recoveries"] > 0))
        known = time.monotonic() - killed
        lowest = begun["step"]

        def goes_on():
            nonlocal lowest
            job = when(lambda job: True)
            if job is None or job["step"] > lowest:
                return job
            lowest = job["step"]
            return None

        after = wait_for("step after the recovery", goes_on)
        return time.monotonic() - killed, known, after["step_seconds"]
    finally:
        cluster.send_signal(signal.SIGINT)
        cluster.wait(timeout=LIMIT_SECONDS)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victim", choices=["worker", "coordinator", "shard"], default="worker")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--binaries", default="bazel-bin")
    options = parser.parse_args()
    runs = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "corpus.txt").write_text("All work and no play makes Jack a dull boy.\n" * 500)
            pathlib.Path(folder, "job.yaml").write_text(JOB)
            runs.append(one_run(os.path.abspath(options.binaries), folder, options.victim))
    recovered, known, step = zip(*runs)
    print(json.dumps({
        "victim": options.victim,
        "recovery_seconds": {"median": statistics.median(recovered), "runs": recovered},
        "until_the_loss_is_known_seconds": {"median": statistics.median(known), "runs": known},
        "step_seconds": {"median": statistics.median(step), "runs": step},
    }, indent=2))


if __name__ == "__main__":
    main()
