"""Tests of count_results.py on build events of each kind."""
import json
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import count_results  # noqa: E402

CASES = '<testcase/><testcase><failure/></testcase><testcase result="skipped"/>'


class CountTest(unittest.TestCase):
    def configured(self, kind):
        return json.dumps({"id": {"targetConfigured": {"label": "//:t"}}, "configured": {"targetKind": kind}})

    def completed(self, event):
        return json.dumps({"id": {"targetCompleted": {"label": "//:t"}}, **event})

    def result(self, status, xml=None):
        outputs = []
        if xml is not None:
            handle, path = tempfile.mkstemp(suffix=".xml", dir=os.environ.get("TEST_TMPDIR"))
            with os.fdopen(handle, "w") as file:
                file.write(xml)
            outputs = [{"name": "test.log", "uri": "file:///log"}, {"name": "test.xml", "uri": "file://" + path}]
        return json.dumps({"id": {"testResult": {"label": "//:t"}},
                           "testResult": {"status": status, "testActionOutput": outputs}})

    def count(self, *events):
        return count_results.count(events)

    def test_cases_are_counted_one_by_one(self):
        xml = f'<testsuites name="AllTests"><testsuite>{CASES}</testsuite></testsuites>'
        self.assertEqual(self.count(self.configured("cc_test rule"), self.result("FAILED", xml)), [1, 1, 1])

    def test_a_crash_or_a_timeout_without_a_failed_case_counts_as_one(self):
        self.assertEqual(self.count(self.result("TIMEOUT")), [0, 1, 0])
        self.assertEqual(self.count(self.result("FAILED", "<testsuites><testcase/>cut")), [0, 1, 0])
        self.assertEqual(self.count(self.result("FAILED", "<testsuites><testcase/></testsuites>")), [1, 1, 0])

    def test_a_passed_script_counts_as_one(self):
        self.assertEqual(self.count(self.configured("sh_test rule"), self.result("PASSED")), [1, 0, 0])

    def test_a_program_that_left_early_failed(self):
        xml = '<testsuites><testsuite><testcase name="t"/></testsuite></testsuites>'
        self.assertEqual(self.count(self.configured("cc_test rule"), self.result("PASSED", xml)), [0, 1, 0])
        xml = '<testsuites name="AllTests"><testsuite><testcase/></testsuite></testsuites>'
        self.assertEqual(self.count(self.configured("cc_test rule"), self.result("PASSED", xml)), [1, 0, 0])

    def test_each_target_that_was_not_built_failed(self):
        self.assertEqual(self.count(self.completed({"completed": {"success": True}})), [0, 0, 0])
        self.assertEqual(self.count(self.completed({"completed": {"failureDetail": {}}})), [0, 1, 0])
        self.assertEqual(self.count(self.completed({"aborted": {"reason": "ANALYSIS_FAILURE"}})), [0, 1, 0])
        self.assertEqual(self.count(self.completed({"aborted": {"reason": "SKIPPED"}})), [0, 0, 0])


if __name__ == "__main__":
    unittest.main()
