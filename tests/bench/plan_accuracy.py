#!/usr/bin/env python3
"""Runs small models on every mesh of a local cluster and holds the planner against what comes out. By hand:

  bazel build //deploy/local:penstock-local //services/client:penstockctl //coordinator:penstock-coordinator \
      //services/parameter:penstock-params //worker:penstock-worker
  tests/bench/plan_accuracy.py [--model NAME] [--mesh PxDxT] [--zero YAML] [--activities] [--steps N] [--runs N]

For each model: a first job on one worker, from whose steps the coordinator learns; then the choice of `plan` with
parallel: auto; then every mesh of at most N workers, several times in turn. Prints one JSON object: for each model
predicted and measured seconds of each mesh (medians over all steps but the first few), the mesh that auto chose, and how
much slower it is than the best one that was measured. With --activities also where the ranks' time went: seconds of a
step by kind (penstock_worker_activity_seconds_total), of each worker that took part.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.join(ROOT, "bazel-bin")
CTL = os.path.join(BIN, "services/client/penstockctl")
STEPS_NOT_COUNTED = 3

MODELS = {
    # Little model, much data.
    "small": dict(layers=4, hidden=64, heads=4, seq_length=64, vocab_size=256, batch=32, micro_batch=4),
    # The README's.
    "middle": dict(layers=4, hidden=256, heads=4, seq_length=128, vocab_size=256, batch=16, micro_batch=2),
    # Much model, little data.
    "wide": dict(layers=4, hidden=512, heads=8, seq_length=32, vocab_size=256, batch=8, micro_batch=1),
    # Hardly anything to compute: what its state costs.
    "idle": dict(layers=4, hidden=768, heads=12, seq_length=8, vocab_size=256, batch=2, micro_batch=1),
}
DEFAULT_MODELS = ("small", "middle", "wide")


class Cluster:
    def __init__(self, workers, params):
        self.dir = tempfile.mkdtemp(prefix="penstock-plan-")
        self.process = subprocess.Popen(
            [os.path.join(BIN, "deploy/local/penstock-local"), "--workers", str(workers), "--params", str(params),
             "--threads", "1", "--dir", os.path.join(self.dir, "cluster")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        path = os.path.join(self.dir, "cluster", "cluster.json")
        deadline = time.monotonic() + 60
        while not os.path.exists(path):
            if time.monotonic() > deadline or self.process.poll() is not None:
                sys.exit("the cluster doesn't start; build its binaries first (see --help)")
            time.sleep(0.1)
        description = json.load(open(path))
        self.address, self.metrics = description["coordinator"], description["metrics"]
        self.worker_pids = description["pids"]["workers"]
        with open(os.path.join(self.dir, "corpus.txt"), "w") as corpus:
            for i in range(40000):
                corpus.write("%d bottles of beer on the wall, %d bottles of beer.\n" % (i, i * i % 9973))

    def ctl(self, *arguments):
        result = subprocess.run([CTL, "--coordinator", self.address, "-o", "json", *arguments], capture_output=True,
                                text=True)
        if result.returncode != 0:
            raise RuntimeError("penstockctl %s: %s" % (" ".join(arguments), result.stderr.strip()))
        return json.loads(result.stdout)

    def job_file(self, name, model, parallel, steps):
        path = os.path.join(self.dir, name + ".yaml")
        with open(path, "w") as job:
            job.write("name: %s\nmodel: {family: gpt2, layers: %d, hidden: %d, heads: %d, seq_length: %d, "
                      "vocab_size: %d}\n" % (name, model["layers"], model["hidden"], model["heads"],
                                             model["seq_length"], model["vocab_size"]))
            job.write("data: {path: corpus.txt, format: bytes}\n")
            job.write("training: {steps: %d, global_batch_size: %d, micro_batch_size: %d, validate_every_steps: 0}\n" %
                      (steps, model["batch"], model["micro_batch"]))
            job.write("parallel: %s\n" % parallel)
        return path

    # Predicted and measured seconds of the counted steps.
    def run(self, name, model, parallel, steps):
        self.ctl("job", "submit", "--detach", self.job_file(name, model, parallel, steps))
        # One client that waits: clients that ask again and again take time from the workers.
        self.ctl("job", "watch", name)
        job = self.ctl("job", "show", name)
        if job["state"] != "SUCCEEDED":
            raise RuntimeError("%s: %s %s" % (name, job["state"], job["message"]))
        history = self.ctl("job", "history", name)
        return job["predicted_step_seconds"], [r["step_seconds"] for r in history[STEPS_NOT_COUNTED:]]

    # Of each process that has such a metric: seconds by kind.
    def activities(self):
        found = []
        for address in self.metrics:
            text = urllib.request.urlopen("http://%s/metrics" % address).read().decode()
            seconds = dict(re.findall(r'^penstock_worker_activity_seconds_total\{kind="(\w+)"\} (\S+)', text, re.M))
            found.append({kind: float(value) for kind, value in seconds.items()})
        return found

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def meshes(workers, model, tensor_max):
    for pipeline in range(1, workers + 1):
        for data in range(1, workers + 1):
            for tensor in range(1, tensor_max + 1):
                if pipeline * data * tensor > workers or pipeline > model["layers"]:
                    continue
                if model["batch"] % (data * model["micro_batch"]) or model["heads"] % tensor:
                    continue
                yield pipeline, data, tensor


def text(mesh, options):
    return "{pipeline: %d, data: %d, tensor: %d, zero: %s}" % (mesh + (options.zero,))


# Seconds of a step by kind, of each worker that was at work between the two.
def spent(before, after, steps):
    ranks = []
    for old, new in zip(before, after):
        seconds = {kind: round((value - old.get(kind, 0)) / steps, 6) for kind, value in new.items()}
        if any(seconds.values()):
            ranks.append({kind: value for kind, value in seconds.items() if value > 0})
    return ranks


def measure(cluster, name, model, options):
    cluster.run(name + "-first", model, "{pipeline: 1, zero: %s}" % options.zero, options.steps)
    # With what the first steps taught it.
    plan = cluster.ctl("plan", cluster.job_file(name + "-auto", model, "{plan: auto, zero: %s}" % options.zero,
                                                options.steps))
    chosen = tuple(plan["mesh"][axis] for axis in ("pipeline", "data", "tensor"))
    predicted, measured, activities, refused = {}, {}, {}, []
    for run in range(options.runs):
        for mesh in meshes(options.workers, model, options.tensor):
            if mesh in refused or options.mesh and "%dx%dx%d" % mesh not in options.mesh:
                continue
            try:
                parallel = text(mesh, options)
                plan = cluster.ctl("plan", cluster.job_file(name + "-plan", model, parallel, options.steps))
                before = cluster.activities() if options.activities else []
                _, seconds = cluster.run("%s-%d-%dx%dx%d" % ((name, run) + mesh), model, parallel, options.steps)
                activities[mesh] = spent(before, cluster.activities(), options.steps) if options.activities else []
            except RuntimeError as error:
                print("%s: %s: %s" % (name, parallel, error), file=sys.stderr)
                refused.append(mesh)
                continue
            predicted.setdefault(mesh, plan["step_seconds"])
            measured.setdefault(mesh, []).extend(seconds)
    medians = {mesh: statistics.median(seconds) for mesh, seconds in measured.items()}
    best = min(medians, key=medians.get)
    return {
        "chosen": "%dx%dx%d" % chosen,
        "best": "%dx%dx%d" % best,
        "chosen_over_best": round(medians[chosen] / medians[best], 4) if chosen in medians else None,
        "meshes": {
            "%dx%dx%d" % mesh: {
                "predicted_seconds": round(predicted[mesh], 6),
                "measured_seconds": round(medians[mesh], 6),
                "measured_over_predicted": round(medians[mesh] / predicted[mesh], 3),
                **({"activities": activities[mesh]} if options.activities else {}),
            } for mesh in medians
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(MODELS), action="append")
    parser.add_argument("--mesh", action="append", help="1x2x1: only this mesh; may be repeated")
    parser.add_argument("--zero", default="{}", help="the jobs' parallel.zero: '{stage: 1, placement: local}'")
    parser.add_argument("--activities", action="store_true", help="say where the ranks' time went")
    parser.add_argument("--steps", type=int, default=23)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--tensor", type=int, default=4, help="largest tensor degree")
    options = parser.parse_args()
    cluster = Cluster(options.workers, 2)
    try:
        result = {name: measure(cluster, name, MODELS[name], options) for name in options.model or DEFAULT_MODELS}
    finally:
        cluster.stop()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
