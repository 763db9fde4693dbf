"""Runs a bundle's GPU tests; see tests/gpu/run."""

import argparse
import concurrent.futures
import ctypes
import json
import os
import pathlib
import shutil
import site
import subprocess
import sys
import tempfile
import time

import scenarios

# Of one test binary.
LIMIT_SECONDS = 600
# Test binaries at a time: most of what one takes is the start of CUDA, on the host.
TESTS_AT_A_TIME = 4
# Kernels' tests, which compute-sanitizer goes through. (NCCL's own kernels aren't ours to check.)
SANITIZED = "_gpu_test"
PARTS = ["tests", *(scenario.__name__ for scenario in scenarios.SCENARIOS), "sanitizer"]


def card():
    """What nvidia-smi says of the first card."""
    fields = ["name", "driver_version", "memory.total", "compute_cap"]
    command = ["nvidia-smi", "--query-gpu=" + ",".join(fields), "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return {"error": str(error)}
    return dict(zip(fields, [value.strip() for value in answer.split(",")]))


def loads(name):
    try:
        ctypes.CDLL(name)
        return True
    except OSError:
        return False


def library_folders():
    """Folders of CUDA's libraries in PyTorch's package, for what the loader doesn't find by itself."""
    folders = []
    for names in [["libcublasLt.so.13", "libcublasLt.so.12"], ["libnccl.so.2"]]:
        if any(loads(name) for name in names):
            continue
        folders += [str(path.parent) for place in [*site.getsitepackages(), site.getusersitepackages()]
                    for name in names for path in sorted(pathlib.Path(place).glob(f"nvidia/*/lib/{name}"))]
    return folders


def run(command, name, limit):
    """Runs a gtest binary and counts its cases."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        environment = dict(os.environ, GTEST_OUTPUT=f"json:{report}", TEST_TMPDIR=folder)
        begin = time.monotonic()
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace",
                                  timeout=max(limit, 0.001), check=False)
            code, output = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired as late:
            code, output = "timeout", (late.stdout or b"").decode(errors="replace")
        result = {"name": name, "exit": code, "seconds": round(time.monotonic() - begin, 2)}
        # A binary that died has written no report.
        result.update(count(json.loads(report.read_text()) if report.exists() else {}))
        if code != 0:
            result["output"] = output[-4000:]
        return result


def count(report):
    """Cases that passed, failed and were skipped in a gtest report."""
    cases = [case for suite in report.get("testsuites", []) for case in suite["testsuite"]]
    skipped = sum(case.get("result") == "SKIPPED" for case in cases)
    failed = sum("failures" in case for case in cases)
    return {"passed": len(cases) - skipped - failed, "failed": failed, "skipped": skipped}


def run_all(commands, limit):
    """The results of gtest binaries, (name, command) each, of which some run at a time; all end before `limit`."""
    end = time.monotonic() + limit

    def one(item):
        name, command = item
        result = run(command, name, min(LIMIT_SECONDS, end - time.monotonic()))
        if result["exit"] != 0:
            print(json.dumps(result), file=sys.stderr, flush=True)
        return result

    with concurrent.futures.ThreadPoolExecutor(TESTS_AT_A_TIME) as pool:
        results = list(pool.map(one, commands))
    summary = {
        "passed": sum(result["passed"] for result in results),
        "failed": sum(max(result["failed"], int(result["exit"] != 0)) for result in results),
        "skipped": sum(result["skipped"] for result in results),
        "tests": results,
    }
    # Where everything was skipped nothing was shown.
    return {"good": summary["failed"] == 0 and summary["passed"] > 0, **summary}


class Bundle:
    """An unpacked bundle and what is known of it so far."""

    def __init__(self, options):
        self.options = options
        self.root = pathlib.Path(options.root)
        self.end = time.monotonic() + 60 * options.minutes
        revision = self.root / "REVISION"
        self.summary = {"revision": revision.read_text().strip() if revision.exists() else "", "card": card(),
                        "left_out": []}
        self.session = None

    def left(self):
        return self.end - time.monotonic()

    def tests(self):
        return run_all([(test.name, [str(test)]) for test in sorted((self.root / "tests").iterdir())], self.left())

    def sanitizer(self):
        """The sanitizers take longest, so they come last."""
        tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        if not os.path.exists(tool):
            return {"good": True, "skipped": "this machine has no compute-sanitizer"}
        return run_all([(f"{test.name} ({check})", [tool, "--tool", check, "--error-exitcode", "9", str(test)])
                        for check in ["memcheck", "racecheck"]
                        for test in sorted((self.root / "tests").iterdir()) if test.name.endswith(SANITIZED)],
                       self.left())

    def scenario(self, name):
        if self.session is None:
            arguments = [str(self.root / "bin"), f"--device={self.options.device}", *self.options.scenario_arguments]
            self.session = scenarios.Session(scenarios.parse(arguments), arguments)
            self.summary["preflight"] = self.session.preflight
        result = self.session.run(name, self.left())
        return {"good": result["passed"], **result}

    def run(self, part):
        if part in ("tests", "sanitizer"):
            return getattr(self, part)()
        # Of an archive without programs there are the tests alone.
        if not (self.root / "bin" / "penstock-local").exists():
            return {"good": True, "skipped": "the bundle has no programs"}
        return self.scenario(part)

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
            if part != "tests":
                print(json.dumps({part: self.summary[part]}), file=sys.stderr, flush=True)
            self.summary["goals"] = {name: self.summary[name]["goals"] for name in PARTS
                                     if "goals" in self.summary.get(name, {})}
            self.summary["good"] = all(self.summary[name]["good"] for name in PARTS if name in self.summary)
            self.keep()
        if self.summary["left_out"]:
            print(f"no time was left for {', '.join(self.summary['left_out'])}", file=sys.stderr)
            self.keep()


def parse():
    parser = argparse.ArgumentParser(prog="tests/gpu/run")
    parser.add_argument("root")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--minutes", type=float, default=180)
    parser.add_argument("--report", default="")
    parser.add_argument("--device", default="cuda:0")
    # What it doesn't know is scenarios.py's.
    options, options.scenario_arguments = parser.parse_known_args()
    options.only = options.only.split(",")
    unknown = set(options.only) - set(PARTS)
    if unknown:
        parser.error(f"--only: no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


def main():
    bundle = Bundle(parse())
    if "PENSTOCK_CUDA_LIBRARIES" not in os.environ and (folders := library_folders()):
        os.environ["PENSTOCK_CUDA_LIBRARIES"] = ":".join(folders)
        bundle.summary["libraries"] = folders
    bundle.run_parts()
    print(json.dumps(bundle.summary, indent=1))
    return 0 if bundle.summary.get("good") else 1


if __name__ == "__main__":
    sys.exit(main())
