"""Runs a bundle's GPU tests; see tests/gpu/run."""
import argparse
import json
import os
import pathlib
import signal
import sys
import tarfile
import tempfile
import threading
import time
import traceback

import gtests
import machine
import processes
import scenarios

# Of all test binaries together, and of each check of compute-sanitizer's.
TESTS_SECONDS = 200
SANITIZER_SECONDS = 400
# Of the log: what is said after that is more of the same.
LOG_BYTES = 12 << 20
# Kernels' tests, which compute-sanitizer goes through. (NCCL's own kernels aren't ours to check.)
SANITIZED = "_gpu_test"
# The first finds most; the last two are quick.
CHECKS = ["memcheck", "racecheck", "synccheck", "initcheck"]
# Of a tool that this machine doesn't let look: nothing that is ours.
REFUSED = ["Device not supported", "LibraryNotLoaded", "ERR_NVGPUCTRPERM", "Unable to find injection library"]
PARTS = ["tests", *(scenario.__name__ for scenario in scenarios.SCENARIOS), "sanitizer"]


class Bundle:
    """An unpacked bundle and what is known of it so far."""

    def __init__(self, options, root):
        self.options = options
        self.root = pathlib.Path(root)
        self.begin = time.monotonic()
        self.end = self.begin + 60 * options.minutes
        revision = self.root / "REVISION"
        self.summary = {"revision": revision.read_text().strip() if revision.exists() else "", "card": machine.card(),
                        "machine": machine.facts(), "parts": [], "left_out": [], "good": False}
        self.session = None
        self.lock = threading.Lock()
        if options.report:
            pathlib.Path(options.report + ".log").write_text("")

    def left(self):
        return self.end - time.monotonic()

    def log(self, title, text):
        """All words of what failed, for whoever mends it somewhere else."""
        if not self.options.report:
            return
        with self.lock, open(self.options.report + ".log", "a", encoding="utf-8") as file:
            if file.tell() < LOG_BYTES:
                file.write(f"==== {title}\n{text}\n")

    def runner(self, seconds):
        scale = self.options.scenarios.limit
        return gtests.Runner(time.monotonic() + min(self.left(), seconds * scale), self.log, scale)

    def binaries(self, ending=""):
        return [test for test in sorted((self.root / "tests").iterdir()) if test.name.endswith(ending)]

    def tests(self):
        def note(result):
            self.summary["tests"] = result
            self.keep()
        return self.runner(TESTS_SECONDS).run_all([(test.name, [str(test)]) for test in self.binaries()], note=note)

    def sanitizer(self):
        """The sanitizers take longest, so they come last."""
        tool = machine.tool("compute-sanitizer")
        if not tool:
            return {"good": True, "skipped": "this machine has no compute-sanitizer"}
        found = {"good": True}
        # The libraries' own kernels aren't looked at.
        command = [tool, "--error-exitcode", "9", "--print-limit", "20", "--kernel-name", "kns=penstock"]
        tests = self.binaries(SANITIZED)
        for check in CHECKS:
            if self.left() <= 0:
                found.setdefault("left_out", []).append(check)
                continue
            runner = self.runner(SANITIZER_SECONDS)
            commands = [(test.name, [*command, "--tool", check, str(test)]) for test in tests]
            result = runner.run_all(commands, again=False)
            words = "\n".join(test.get("output", "") for test in result["tests"])
            if (reason := next((reason for reason in REFUSED if reason in words), None)) and result["passed"] == 0:
                return {"good": True, "skipped": f"compute-sanitizer can't work here: {reason}"}
            found[check] = result
            found["good"] = found["good"] and result["good"]
            self.summary["sanitizer"] = found
            self.keep()
        return found

    def scenario(self, name):
        # Of an archive without programs there are the tests alone.
        if not (self.root / "bin" / "penstock-local").exists():
            return {"good": True, "skipped": "the bundle has no programs"}
        if self.session is None:
            self.session = scenarios.Session(self.options.scenarios, self.options.scenario_arguments, self.log)
            self.summary["preflight"] = self.session.preflight
            self.summary["preflight_seconds"] = self.session.preflight_seconds
        result = self.session.run(name, self.left())
        return {"good": result["passed"], **result}

    def run(self, part):
        """The part's result, whatever happens to it."""
        begin = time.monotonic()
        try:
            result = getattr(self, part)() if part in ("tests", "sanitizer") else self.scenario(part)
        except Exception:  # pylint: disable=broad-except
            result = {"good": False, "error": traceback.format_exc()[-3000:]}
        self.summary["parts"].append({"part": part, "good": result["good"],
                                      "seconds": round(time.monotonic() - begin, 1), "card": machine.card_now()})
        return result

    def keep(self):
        """Writes what is known so far, should the machine go away."""
        if self.options.report:
            draft = pathlib.Path(self.options.report + ".new")
            draft.write_text(json.dumps(self.summary, indent=1) + "\n")
            draft.replace(self.options.report)

    def run_parts(self):
        for part in PARTS:
            if part not in self.options.only:
                continue
            if self.left() <= 0:
                self.summary["left_out"].append(part)
                continue
            print(f"{part} ...", file=sys.stderr, flush=True)
            self.summary[part] = self.run(part)
            print(json.dumps(brief(part, self.summary[part])), file=sys.stderr, flush=True)
            self.summary["goals"] = {name: self.summary[name]["goals"] for name in PARTS
                                     if "goals" in self.summary.get(name, {})}
            self.summary["good"] = all(done["good"] for done in self.summary["parts"])
            self.summary["seconds"] = round(time.monotonic() - self.begin, 1)
            self.keep()
        if self.summary["left_out"]:
            print(f"no time was left for {', '.join(self.summary['left_out'])}", file=sys.stderr)
        self.keep()


def brief(part, result):
    """What there is to say at once: whole results are long."""
    said = {part: "good" if result["good"] else "BAD"}
    for key in ("error", "skipped", "seconds", "passed", "failed", "goals"):
        if key in result:
            said[key] = result[key]
    if part == "tests":
        said["bad"] = [test["name"] for test in result.get("tests", []) if test["exit"] != 0]
    return said


def parse():
    parser = argparse.ArgumentParser(prog="tests/gpu/run")
    parser.add_argument("bundle")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--minutes", type=float, default=180)
    parser.add_argument("--report", default="")
    parser.add_argument("--device", default="cuda:0")
    # What it doesn't know is scenarios.py's.
    options, options.others = parser.parse_known_args()
    options.only = options.only.split(",")
    unknown = set(options.only) - set(PARTS)
    if unknown:
        parser.error(f"--only: no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


def unpack(bundle, folder):
    """The bundle's own folder. Without xz, which not every machine has."""
    if os.path.isdir(bundle):
        return pathlib.Path(bundle)
    try:
        with tarfile.open(bundle) as archive:
            # Written by ourselves; Python 3.12 wants that said.
            archive.extractall(folder, **({"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))
    except (OSError, EOFError, tarfile.TarError) as error:
        sys.exit(f"{bundle} can't be unpacked: {error}")
    return pathlib.Path(folder) / "penstock"


def stop(*_):
    """Nobody waits for what nobody will look at: all that was started ends, and then this."""
    processes.end(os.environ[processes.MARK])
    raise SystemExit("told to end")


def main():
    options = parse()
    os.environ[processes.MARK] = str(os.getpid())
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = unpack(options.bundle, folder)
        options.scenario_arguments = [str(root / "bin"), f"--device={options.device}", *options.others]
        options.scenarios = scenarios.parse(options.scenario_arguments)
        bundle = Bundle(options, root)
        if "PENSTOCK_CUDA_LIBRARIES" not in os.environ and (folders := machine.library_folders()):
            os.environ["PENSTOCK_CUDA_LIBRARIES"] = ":".join(folders)
            bundle.summary["libraries"] = folders
        bundle.run_parts()
    print(json.dumps(bundle.summary, indent=1))
    return 0 if bundle.summary["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
