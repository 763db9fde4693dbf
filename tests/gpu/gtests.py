"""Runs gtest binaries so that one that dies, hangs or poisons its device hides nothing: what went wrong is run again,
each case in a process of its own."""
import concurrent.futures
import json
import os
import pathlib
import re
import tempfile
import time

import processes

# Of one binary, and of one case by itself.
BINARY_SECONDS = 150
CASE_SECONDS = 60
# At a time: most of what one takes is the start of CUDA and the reference, on the host.
AT_A_TIME = max(2, min(8, (os.cpu_count() or 2) // 2))
# Cases of a binary that are run again by themselves, and what is kept of each one's words.
ALONE_MAX = 40
WORDS_KEPT = 2500


def count(report):
    """Cases that passed, failed and were skipped in a gtest report."""
    cases = [case for suite in report.get("testsuites", []) for case in suite["testsuite"]]
    skipped = sum(case.get("result") == "SKIPPED" for case in cases)
    failed = sum("failures" in case for case in cases)
    return {"passed": len(cases) - skipped - failed, "failed": failed, "skipped": skipped}


def outcomes(output):
    """Each case that began, in order, and what became of it: OK, FAILED, SKIPPED, or RUN where it didn't end."""
    found = {}
    for word, name in re.findall(r"^\[ *(RUN|OK|FAILED|SKIPPED) *\] ([\w./]+\.[\w./]+)", output, re.MULTILINE):
        if word == "RUN" or name in found:
            found[name] = word
    return found


def listed(words):
    """Names of the cases of --gtest_list_tests."""
    names, suite = [], ""
    for line in words.splitlines():
        name = line.split("#")[0].rstrip()
        if name.startswith("  "):
            names.append(suite + name.strip())
        elif name.endswith("."):
            suite = name
    return names


def skip_reasons(output):
    """How often each reason was said."""
    reasons = {}
    for reason in re.findall(r"^.*: Skipped\n(.*)$", output, re.MULTILINE):
        reasons[reason] = reasons.get(reason, 0) + 1
    return reasons


def clip(text, kept):
    """The beginning says what went wrong first, the end with what it ended."""
    return text if len(text) <= kept else f"{text[:kept * 2 // 3]}\n[...]\n{text[-kept // 3:]}"


class Runner:
    """Runs binaries until `end`, on time.monotonic()'s axis. `log` gets (title, text) of all that went wrong, whole."""

    def __init__(self, end, log=lambda title, text: None, scale=1.0):
        self.end = end
        self.log = log
        self.scale = scale

    def limit(self, seconds):
        return min(self.scale * seconds, self.end - time.monotonic())

    def launch(self, command, seconds, filter_=None):
        """What became of the process, with gtest's report."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            report = pathlib.Path(folder) / "report.json"
            environment = dict(os.environ, GTEST_OUTPUT=f"json:{report}", TEST_TMPDIR=folder)
            if filter_ is not None:
                environment["GTEST_FILTER"] = filter_
            done = processes.run(command, self.limit(seconds), environment)
            # A binary that died has written no report.
            try:
                read = json.loads(report.read_text())
            except (OSError, ValueError):
                read = None
        return done, read

    def alone(self, command, name):
        """One case, in a process of its own."""
        done, _ = self.launch(command, CASE_SECONDS, name)
        result = {"case": name, "exit": done.code, "seconds": done.seconds}
        if not done.good:
            words = (done.output + done.errors).replace("Note: Google Test filter", "filter")
            self.log(f"{name}, alone", words)
            begin = words.find("[ RUN")
            result["output"] = clip(words[max(begin, 0):], WORDS_KEPT)
        return result

    def run(self, name, command, pool=None):
        """One binary's result; cases that didn't pass are run again where there is a `pool` to run them."""
        done, report = self.launch(command, BINARY_SECONDS)
        result = {"name": name, "exit": done.code, "seconds": done.seconds, **count(report or {})}
        said = outcomes(done.output)
        if report is None:
            for key, word in [("passed", "OK"), ("failed", "FAILED"), ("skipped", "SKIPPED")]:
                result[key] = sum(outcome == word for outcome in said.values())
            unfinished = [case for case, outcome in said.items() if outcome == "RUN"]
            if unfinished:
                result["ended_in"] = unfinished[-1]
        if reasons := skip_reasons(done.output):
            result["skip_reasons"] = reasons
        if done.left_behind:
            result["left_behind"] = done.left_behind
        if done.good:
            return result
        self.log(name, done.output + done.errors)
        result["output"] = clip(done.output + done.errors, 2 * WORDS_KEPT)
        if pool is not None and said:
            everything = listed(self.launch([*command, "--gtest_list_tests"], 20)[0].output)
            again = [case for case in everything if said.get(case) not in ("OK", "SKIPPED")]
            if len(again) > ALONE_MAX:
                result["not_run_again"] = again[ALONE_MAX:]
            result["alone"] = list(pool.map(lambda case: self.alone(command, case), again[:ALONE_MAX]))
        return result

    def run_all(self, commands, again=True, note=None):
        """The results of binaries, (name, command) each, of which some run at a time. `note` sees those so far."""
        results = {}
        with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as binaries, \
                concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as cases:
            jobs = {binaries.submit(self.run, name, command, cases if again else None): name
                    for name, command in commands}
            for job in concurrent.futures.as_completed(jobs):
                results[jobs[job]] = job.result()
                if note is not None:
                    note(summarize([results[name] for name, _ in commands if name in results]))
        return summarize([results[name] for name, _ in commands])


def summarize(results):
    summary = {
        "passed": sum(result["passed"] for result in results),
        "failed": sum(max(result["failed"], int(result["exit"] != 0)) for result in results),
        "skipped": sum(result["skipped"] for result in results),
        "tests": results,
    }
    # Where everything was skipped nothing was shown.
    return {"good": summary["failed"] == 0 and summary["passed"] > 0, **summary}
