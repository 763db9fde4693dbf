"""Runs a bundle's GPU tests; see tests/gpu/run."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

# Of one test binary.
LIMIT_SECONDS = 600
# Kernels' tests, which compute-sanitizer goes through. (NCCL's own kernels aren't ours to check.)
SANITIZED = "_gpu_test"


def card():
    """What nvidia-smi says of the first card."""
    fields = ["name", "driver_version", "memory.total", "compute_cap"]
    command = ["nvidia-smi", "--query-gpu=" + ",".join(fields), "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return {"error": str(error)}
    return dict(zip(fields, [value.strip() for value in answer.split(",")]))


def run(command, name):
    """Runs a gtest binary and counts its cases."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        environment = dict(os.environ, GTEST_OUTPUT=f"json:{report}", TEST_TMPDIR=folder)
        begin = time.monotonic()
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace",
                                  timeout=LIMIT_SECONDS)
            code, output = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            code, output = "timeout", ""
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


def train(root):
    """scenarios.py's object; nothing for a bundle without programs."""
    if not (root / "bin" / "penstock-local").exists():
        return None
    program = pathlib.Path(__file__).with_name("scenarios.py")
    # Its errors and what it knows so far go on to ours.
    done = subprocess.run([sys.executable, str(program), str(root / "bin")], stdout=subprocess.PIPE, text=True,
                          check=False)
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        return {"passed": False, "error": f"scenarios.py ended with {done.returncode}: {done.stdout[-4000:]}"}


def main():
    root, sanitizer = pathlib.Path(sys.argv[1]), sys.argv[2] == "--sanitizer"
    tests = sorted((root / "tests").iterdir())
    results = [run([str(test)], test.name) for test in tests]
    for result in results:
        if result["exit"] != 0:
            print(json.dumps(result), file=sys.stderr, flush=True)
    # The sanitizers take longest, so they come last.
    training = train(root)
    if sanitizer:
        tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        for test in tests:
            if not test.name.endswith(SANITIZED):
                continue
            for check in ["memcheck", "racecheck"]:
                command = [tool, "--tool", check, "--error-exitcode", "9", str(test)]
                results.append(run(command, f"{test.name} ({check})"))
    revision = root / "REVISION"
    summary = {
        "revision": revision.read_text().strip() if revision.exists() else "",
        "card": card(),
        "passed": sum(result["passed"] for result in results),
        "failed": sum(max(result["failed"], int(result["exit"] != 0)) for result in results),
        "skipped": sum(result["skipped"] for result in results),
        "tests": results,
    }
    if training is not None:
        summary["training"] = training
    print(json.dumps(summary, indent=1))
    # Where everything was skipped nothing was shown.
    good = summary["failed"] == 0 and (training is None or training["passed"])
    return 0 if tests and good and summary["passed"] > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
