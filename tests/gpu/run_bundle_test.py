"""run_bundle.py with tests that are shell scripts."""

import json
import os
import pathlib
import subprocess
import sys
import tarfile
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

    def write(self, name, text):
        path = self.root / "tests" / name
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)

    def test_a_test_that_dies(self):
        self.write("a_gpu_test", "kill -9 $$\n")
        code, summary = run(self.root)
        self.assertEqual((code, counts(summary)), (1, (0, 1, 0)))

    def test_what_a_dead_test_hid_is_run_again_by_itself(self):
        # The second case dies, the third has no chance but alone; the fourth is wrong in any case.
        self.write("a_gpu_test", """
case "$1$GTEST_FILTER" in
  --gtest_list_tests) printf 'Suite/Kernels.\\n  Right/Cuda  # GetParam()\\n  Dies/Cuda\\n  Hidden/Cuda\\n  Wrong/Cuda\\n' ;;
  '') echo '[ RUN      ] Suite/Kernels.Right/Cuda'
      echo '[       OK ] Suite/Kernels.Right/Cuda (1 ms)'
      echo '[ RUN      ] Suite/Kernels.Dies/Cuda'
      kill -9 $$ ;;
  *Hidden/Cuda) echo "[ RUN      ] $GTEST_FILTER"; echo "[       OK ] $GTEST_FILTER (1 ms)" ;;
  *) echo "[ RUN      ] $GTEST_FILTER"; echo "an illegal memory access"; exit 1 ;;
esac
""")
        report = self.root / "report.json"
        code, summary = run(self.root, f"--report={report}")
        self.assertEqual((code, counts(summary)), (1, (1, 1, 0)))
        (test,) = summary["tests"]["tests"]
        self.assertEqual(test["ended_in"], "Suite/Kernels.Dies/Cuda")
        self.assertEqual([(case["case"].split(".")[1], case["exit"]) for case in test["alone"]],
                         [("Dies/Cuda", 1), ("Hidden/Cuda", 0), ("Wrong/Cuda", 1)])
        self.assertIn("illegal memory access", test["alone"][2]["output"])
        self.assertIn("==== Suite/Kernels.Wrong/Cuda, alone", pathlib.Path(f"{report}.log").read_text())

    def test_nothing_is_left_behind(self):
        # In a session of its own and deaf to SIGTERM, as what hangs in a driver is.
        pid = self.root / "pid"
        self.write("a_gpu_test", f"setsid sh -c 'trap \"\" TERM; echo $$ > {pid}; while :; do tail -f /dev/null; done' &\n"
                                 f"while [ ! -s {pid} ]; do :; done\n")
        _, summary = run(self.root)
        self.assertTrue(summary["tests"]["tests"][0]["left_behind"])
        # Gone, or what is left of it until somebody asks how it ended.
        command = pathlib.Path(f"/proc/{int(pid.read_text())}/cmdline")
        self.assertEqual(command.read_bytes() if command.exists() else b"", b"")

    def test_an_archive(self):
        script(self.root / "tests", "a_gpu_test", [{"result": "COMPLETED"}], 0)
        (self.root / "REVISION").write_text("abc\n")
        archive = self.root / "bundle.tar.xz"
        with tarfile.open(archive, "w:xz") as file:
            file.add(self.root / "tests", "penstock/tests")
            file.add(self.root / "REVISION", "penstock/REVISION")
        code, summary = run(archive)
        self.assertEqual((code, summary["revision"], counts(summary)), (0, "abc", (1, 0, 0)))

    def test_time_that_is_over(self):
        script(self.root / "tests", "a_gpu_test", [{"result": "COMPLETED"}], 0)
        self.write("b_gpu_test", "echo so far; exec tail -f /dev/null\n")
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
