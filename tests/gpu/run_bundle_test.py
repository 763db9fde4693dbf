"""run_bundle.py with tests that are shell scripts."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = pathlib.Path(__file__).parent / "run_bundle.py"


def script(folder, name, cases, code):
    """A test that writes gtest's report of `cases` and ends with `code`."""
    report = json.dumps({"testsuites": [{"testsuite": cases}]})
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat > \"${{GTEST_OUTPUT#json:}}\" <<'END'\n{report}\nEND\necho said\nexit {code}\n")
    path.chmod(0o755)


def run(root, *arguments):
    done = subprocess.run([sys.executable, str(PROGRAM), str(root), "--only=tests", *arguments], capture_output=True,
                          text=True, check=False, env=dict(os.environ))
    return done.returncode, json.loads(done.stdout)


def counts(summary):
    tests = summary["tests"]
    return tests["passed"], tests["failed"], tests["skipped"]


class RunBundleTest(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)
        (self.root / "tests").mkdir()

    def tearDown(self):
        self.folder.cleanup()

    def test_counts(self):
        passed, skipped = {"result": "COMPLETED"}, {"result": "SKIPPED"}
        script(self.root / "tests", "a_gpu_test", [passed, passed, skipped], 0)
        code, summary = run(self.root)
        self.assertEqual(code, 0)
        self.assertEqual(counts(summary), (2, 0, 1))
        script(self.root / "tests", "b_gpu_test", [{"result": "COMPLETED", "failures": [{}]}], 1)
        code, summary = run(self.root)
        self.assertEqual(code, 1)
        self.assertEqual(counts(summary), (2, 1, 1))
        self.assertIn("said", summary["tests"]["tests"][1]["output"])

    def test_only_skipped_is_a_failure(self):
        script(self.root / "tests", "a_gpu_test", [{"result": "SKIPPED"}], 0)
        code, summary = run(self.root)
        self.assertEqual((code, counts(summary)), (1, (0, 0, 1)))

    def test_a_test_that_dies(self):
        path = self.root / "tests" / "a_gpu_test"
        path.write_text("#!/bin/sh\nkill -9 $$\n")
        path.chmod(0o755)
        code, summary = run(self.root)
        self.assertEqual((code, counts(summary)), (1, (0, 1, 0)))

    def test_time_that_is_over(self):
        script(self.root / "tests", "a_gpu_test", [{"result": "COMPLETED"}], 0)
        slow = self.root / "tests" / "b_gpu_test"
        slow.write_text("#!/bin/sh\necho so far; exec tail -f /dev/null\n")
        slow.chmod(0o755)
        report = self.root / "report.json"
        code, summary = run(self.root, "--only=tests,kill", "--minutes=0.03", f"--report={report}")
        self.assertEqual((code, counts(summary)), (1, (1, 1, 0)))
        late = summary["tests"]["tests"][1]
        self.assertEqual((late["exit"], late["output"]), ("timeout", "so far\n"))
        self.assertEqual(summary["left_out"], ["kill"])
        self.assertEqual(json.loads(report.read_text()), summary)

    def test_a_part_that_there_is_not(self):
        done = subprocess.run([sys.executable, str(PROGRAM), str(self.root), "--only=tset"], capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("no part tset; there are tests, kill,", done.stderr)


if __name__ == "__main__":
    unittest.main()
