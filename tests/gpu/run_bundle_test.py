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


def run(root):
    done = subprocess.run([sys.executable, str(PROGRAM), str(root), ""], capture_output=True, text=True, check=False,
                          env=dict(os.environ))
    return done.returncode, json.loads(done.stdout)


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
        self.assertEqual((summary["passed"], summary["failed"], summary["skipped"]), (2, 0, 1))
        script(self.root / "tests", "b_gpu_test", [{"result": "COMPLETED", "failures": [{}]}], 1)
        code, summary = run(self.root)
        self.assertEqual(code, 1)
        self.assertEqual((summary["passed"], summary["failed"]), (2, 1))
        self.assertIn("said", summary["tests"][1]["output"])

    def test_only_skipped_is_a_failure(self):
        script(self.root / "tests", "a_gpu_test", [{"result": "SKIPPED"}], 0)
        code, summary = run(self.root)
        self.assertEqual((code, summary["skipped"]), (1, 1))

    def test_a_test_that_dies(self):
        path = self.root / "tests" / "a_gpu_test"
        path.write_text("#!/bin/sh\nkill -9 $$\n")
        path.chmod(0o755)
        code, summary = run(self.root)
        self.assertEqual((code, summary["failed"]), (1, 1))


if __name__ == "__main__":
    unittest.main()
