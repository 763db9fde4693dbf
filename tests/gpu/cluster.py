"""A local cluster of real processes for the scenarios, and what is known when one of them fails."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import urllib.request

# Of every wait, times scale(): short enough that a scenario still says what it waited for.
LIMIT_SECONDS = 60
# penstockctl has deadlines of its own; this one is for a process that doesn't come to them.
CTL_SECONDS = 60
CLOSE_SECONDS = 30
LOG_KEPT = 3000


# Called with an error, which has `logs`, before its cluster is closed: that may take longer than there is time.
on_failure = [lambda error: None]
# Factor for all limits, of machines that take longer.
scale = [1.0]


class Failure(RuntimeError):
    """What a scenario expected and didn't come."""


def why(error):
    """An error as a part of a result."""
    return {"error": f"{type(error).__name__}: {error}", "logs": getattr(error, "logs", None)}


class TimeIsOver(Failure):
    """The scenario's own time: nothing else is to be begun."""


def job(name, model, steps, batch, micro, row, determinism="strict", even=False):
    """A job file's text; `row` as in scenarios.MATRIX. `even`: all steps are alike, and there is nothing but steps."""
    _, precision, pipeline, data, tensor, stage, placement, more = row
    # What nothing varies is learned slowly, so that no model of any size gets out of hand.
    rate, schedule = ("1e-4", ", schedule: {type: constant}") if even else ("1e-3", "")
    zero = f"stage: {stage}, placement: {placement}" + (f", {more}" if more else "")
    return f"""
name: {name}
model: {model}
data: {{path: corpus.txt, format: bytes}}
training: {{steps: {steps}, global_batch_size: {batch}, micro_batch_size: {micro}, precision: {precision}, seed: 1,
           determinism: {determinism}{", validate_every_steps: 0" if even else ""}}}
optimizer: {{type: adamw, learning_rate: {rate}, weight_decay: 0.1, grad_clip: 1.0{schedule}}}
parallel: {{data: {data}, tensor: {tensor}, pipeline: {pipeline}, zero: {{{zero}}}}}
"""


class Cluster:
    """A local cluster whose workers compute on `device`; jobs are submitted from its own folder."""

    def __init__(self, binaries, device, workers, folder, links="auto", shards=1, operations=False):
        self.binaries = pathlib.Path(binaries)
        self.folder = pathlib.Path(folder)
        text = "".join(f"All work and no play makes Jack number {i} a dull boy.\n" for i in range(4000))
        (self.folder / "corpus.txt").write_text(text)
        self.log = open(self.folder / "local.log", "w", encoding="utf-8")
        self.threads = max(1, (os.cpu_count() or 1) // workers)
        # Where NCCL is to connect workers that share a card, each of them needs an environment of its own.
        apart = links == "nccl"
        command = [self.binaries / "penstock-local", f"--workers={1 if apart else workers}", f"--params={shards}",
                   f"--device={device}", f"--device_links={links}", f"--threads={self.threads}",
                   f"--dir={self.folder / 'cluster'}"]
        if operations:
            command.append("--operation_times")
        self.others = []
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=self.environment(0))
        try:
            path = self.folder / "cluster" / "cluster.json"
            self.wait("the cluster", path.exists)
            self.file = json.loads(path.read_text())
            self.address = self.file["coordinator"]
            if apart:
                self.others = [self.start_worker(index, device) for index in range(1, workers)]
                self.wait("the other workers", lambda: len(self.ctl("worker", "list")) == workers)
        except BaseException as error:
            self.explain(error)
            self.close()
            raise

    @staticmethod
    def environment(index):
        return {"NCCL_HOSTID": f"penstock-{index}", "NCCL_IB_DISABLE": "1", "NCCL_SOCKET_IFNAME": "lo",
                "NCCL_DEBUG": "WARN", **os.environ}

    def start_worker(self, index, device):
        command = [self.binaries / "penstock-worker", f"--id=worker-{index}", f"--coordinator={self.address}",
                   f"--device={device}", "--device_links=nccl", f"--threads={self.threads}"]
        with open(self.folder / f"worker-{index}.log", "w", encoding="utf-8") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    env=self.environment(index))

    def ctl(self, *words):
        command = [self.binaries / "penstockctl", "--coordinator", self.address, "-o", "json", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=CTL_SECONDS)
        if done.returncode != 0:
            raise Failure(f"penstockctl {' '.join(map(str, words))}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def wait(self, what, condition, limit=LIMIT_SECONDS):
        limit *= scale[0]
        end = time.monotonic() + limit
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            if self.process.poll() is not None:
                raise Failure(f"the cluster ended: {(self.folder / 'local.log').read_text()[-2000:]}")
            time.sleep(0.05)
        raise Failure(f"no {what} within {limit} s")

    def submit(self, name, text):
        (self.folder / f"{name}.yaml").write_text(text)
        self.ctl("job", "submit", self.folder / f"{name}.yaml", "--detach")

    def show(self, name):
        """The job as it is; an error when it has failed."""
        shown = self.ctl("job", "show", name)
        if shown["state"] in ("FAILED", "CANCELLED"):
            raise Failure(f"job {name} {shown['state']}: {shown['message']}")
        return shown

    def finish(self, name, limit=LIMIT_SECONDS):
        """The job's record and history, when it has succeeded."""
        try:
            shown = self.wait(f"end of {name}",
                              lambda: (lambda j: j if j["state"] == "SUCCEEDED" else None)(self.show(name)), limit)
        except TimeIsOver:
            raise
        except Failure as error:
            raise Failure(f"{error}; {self.explanation(name)}") from error
        return shown, self.ctl("job", "history", name)

    def explanation(self, name):
        """What the coordinator knows of a job that doesn't end: what it waits for, and what happened to it."""
        try:
            shown = self.ctl("job", "show", name)
            return json.dumps({"step": shown["step"], "state": shown["state"], "message": shown["message"],
                               "events": self.ctl("job", "events", name)[-10:]})
        except (Failure, KeyError, ValueError, subprocess.SubprocessError) as error:
            return f"no explanation: {error}"

    def metrics(self, prefix):
        """Samples of all processes whose names start so: {(name, labels): value}, added up."""
        found = {}
        for address in self.file["metrics"]:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=CTL_SECONDS) as answer:
                for line in answer.read().decode().splitlines():
                    if line.startswith(prefix):
                        key, value = line.rsplit(" ", 1)
                        found[key] = found.get(key, 0) + float(value)
        return found

    def explain(self, error):
        """Adds to an error how the logs end: the folder goes with the cluster."""
        paths = [self.folder / "local.log", *sorted(self.folder.glob("worker-*.log")),
                 *sorted((self.folder / "cluster" / "logs").glob("*.log"))]
        error.logs = {path.name: path.read_text(errors="replace")[-LOG_KEPT:] for path in paths
                      if path.exists() and path.stat().st_size}
        on_failure[0](error)

    def close(self):
        """Ends the processes, by force where asking isn't enough."""
        everybody = [*self.others, self.process]
        for process in everybody:
            process.send_signal(signal.SIGINT)
        end = time.monotonic() + CLOSE_SECONDS
        for process in everybody:
            try:
                process.wait(timeout=max(end - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
        self.log.close()


@contextlib.contextmanager
def cluster(binaries, device, workers, **options):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        running = Cluster(binaries, device, workers, folder, **options)
        try:
            yield running
        except BaseException as error:
            running.explain(error)
            raise
        finally:
            running.close()


def goal(name, value, least=None, most=None):
    """One figure that was set out for."""
    met = (least is None or value >= least) and (most is None or value <= most)
    return {"name": name, "value": round(value, 4), **({"at_least": least} if least is not None else {}),
            **({"at_most": most} if most is not None else {}), "met": met}
