#!/usr/bin/env python3
"""How much slower a core computes while its neighbours compute, too. By hand; --help of plan_accuracy.py says what to build.

  tests/bench/neighbour_slowdown.py [--model NAME] [--workers N] [--steps N] [--runs N]

Runs a job on one worker, and the same job on each of N workers of one thread at once, in turn. Prints for each model
processor time of a worker's step, which waiting for a core doesn't change, alone and beside the others: medians of the
runs and their ratio, which is what core/plan/cost_model.cc takes for kNeighbourSlowdown when N is the machine's cores.
"""
import argparse
import json
import os
import statistics

from plan_accuracy import DEFAULT_MODELS, MODELS, Cluster


def processor_seconds(pid):
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Of a step, in the workers that had one of the `count` jobs.
def measure(cluster, name, model, count, steps):
    jobs = ["%s-%d" % (name, i) for i in range(count)]
    before = [processor_seconds(pid) for pid in cluster.worker_pids]
    for job in jobs:
        cluster.ctl("job", "submit", "--detach", cluster.job_file(job, model, "{pipeline: 1}", steps))
    for job in jobs:
        cluster.ctl("job", "watch", job)
    spent = [processor_seconds(pid) - old for pid, old in zip(cluster.worker_pids, before)]
    return statistics.mean(sorted(spent)[-count:]) / steps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(MODELS), action="append")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    cluster = Cluster(options.workers, 2)
    result = {}
    try:
        for name in options.model or DEFAULT_MODELS:
            alone, together = [], []
            for run in range(options.runs):
                job = "%s-%d" % (name, run)
                alone.append(measure(cluster, job + "-alone", MODELS[name], 1, options.steps))
                together.append(measure(cluster, job + "-beside", MODELS[name], options.workers, options.steps))
            result[name] = {
                "alone_processor_seconds": round(statistics.median(alone), 6),
                "beside_processor_seconds": round(statistics.median(together), 6),
                "ratio": round(statistics.median(together) / statistics.median(alone), 3),
            }
    finally:
        cluster.stop()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
