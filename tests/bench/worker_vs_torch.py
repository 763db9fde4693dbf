#!/usr/bin/env python3
"""A job's steps on a real local cluster and PyTorch's by turns, in one run, and their ratio: one JSON line at the end.

One worker of 2 threads, one shard, `zero: {placement: local, mirror: off}`, a GPT-2 of 124 million parameters, batch
4 x 256. PEER is a script that takes --precision, --threads, --steps and prints a JSON line with step_ms; PYTHON is one
that has torch. Without a peer: the cluster's steps alone.

  bazel build //deploy/local:penstock-local //services/client:penstockctl //coordinator:penstock-coordinator \\
      //services/parameter:penstock-params //worker:penstock-worker
  tests/bench/worker_vs_torch.py --peer torch_gpt2.py --python /path/to/python3 --precision bf16

A step's time is the job's own (`job history`): from its first instruction to the next step's, without the first steps
and without the last one, whose state goes to the shard. The worker waits while PyTorch runs. `activities_ms` is what a
step's time went into by the worker's counters, the steps that aren't counted included.
"""
import argparse
import json
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

STEPS_NOT_COUNTED = 2
START_LIMIT_SECONDS = 60
JOB = """
name: {name}
model: {{family: gpt2, layers: 12, hidden: 768, heads: 12, seq_length: 256, vocab_size: 50257}}
data: {{path: corpus.txt, format: bytes}}
training: {{steps: {steps}, global_batch_size: 4, micro_batch_size: 4, precision: {precision}, seed: 1}}
optimizer: {{type: adamw, learning_rate: 1e-4}}
parallel: {{data: 1, pipeline: 1, zero: {{stage: 1, placement: local, mirror: off}}}}
"""


class Cluster:
    def __init__(self, binaries, threads):
        self.binaries = binaries
        self.folder = tempfile.mkdtemp(prefix="penstock-bench-")
        self.process = subprocess.Popen(
            [f"{binaries}/deploy/local/penstock-local", "--workers", "1", "--params", "1", "--threads", str(threads),
             "--dir", f"{self.folder}/cluster"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        path = pathlib.Path(self.folder, "cluster", "cluster.json")
        end = time.monotonic() + START_LIMIT_SECONDS
        while not path.exists():
            if time.monotonic() > end or self.process.poll() is not None:
                sys.exit("worker_vs_torch: the cluster doesn't start; build its programs first (see --help)")
            time.sleep(0.1)
        self.about = json.loads(path.read_text())
        lines = ["%d bottles of beer on the wall, %d bottles of beer.\n" % (i, i * i % 9973) for i in range(20000)]
        pathlib.Path(self.folder, "corpus.txt").write_text("".join(lines))

    def ctl(self, *words):
        command = [f"{self.binaries}/services/client/penstockctl", "--coordinator", self.about["coordinator"], *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"worker_vs_torch: penstockctl {' '.join(words)}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def activity_seconds(self):
        """The worker's counters by activity."""
        for address in self.about["metrics"]:
            text = urllib.request.urlopen(f"http://{address}/metrics", timeout=10).read().decode()
            found = re.findall(r'^penstock_worker_activity_seconds_total\{kind="(\w+)"\} (\S+)$', text, re.M)
            if found:
                return {kind: float(seconds) for kind, seconds in found}
        return {}

    def run(self, name, precision, steps):
        """Milliseconds of each counted step, and by activity."""
        count = steps + STEPS_NOT_COUNTED + 1
        job = pathlib.Path(self.folder, "job.yaml")
        job.write_text(JOB.format(name=name, precision=precision, steps=count))
        before = self.activity_seconds()
        self.ctl("job", "submit", str(job))
        after = self.activity_seconds()
        history = json.loads(self.ctl("-o", "json", "job", "history", name))
        seconds = [record["step_seconds"] for record in history[STEPS_NOT_COUNTED:-1]]
        activities = {kind: (value - before.get(kind, 0)) * 1e3 / count for kind, value in after.items()}
        return [s * 1e3 for s in seconds], activities

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def peer_step_ms(options):
    command = [options.python, options.peer, f"--precision={options.precision}", f"--threads={options.threads}",
               f"--steps={options.steps}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])["step_ms"]


def measure(cluster, options):
    ours, peers, activities = [], [], {}
    for turn in range(options.rounds):
        steps, spent = cluster.run(f"step-{turn}", options.precision, options.steps)
        ours.append(statistics.median(steps))
        for kind, value in spent.items():
            activities.setdefault(kind, []).append(value)
        if options.peer:
            peers.append(peer_step_ms(options))
    result = dict(precision=options.precision, threads=options.threads, rounds=options.rounds,
                  penstock_step_ms=round(statistics.median(ours), 1), penstock_all=[round(value, 1) for value in ours],
                  tokens_per_second=round(4 * 256 * 1e3 / statistics.median(ours), 1),
                  activities_ms={kind: round(statistics.median(values), 1)
                                 for kind, values in sorted(activities.items()) if statistics.median(values) > 0.05})
    if peers:
        result.update(torch_step_ms=round(statistics.median(peers), 1), torch_all=peers,
                      ratio=round(statistics.median(peers) / statistics.median(ours), 3),
                      ratios=[round(peer / own, 3) for peer, own in zip(peers, ours)])
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", default="bazel-bin", help="the folder of the built programs")
    parser.add_argument("--peer", help="the PyTorch script")
    parser.add_argument("--python", default="python3", help="the Python that runs it")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="counted steps of each side in a round")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the cluster is stopped then, too
    cluster = Cluster(options.binaries, options.threads)
    try:
        print(json.dumps(measure(cluster, options)))
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
