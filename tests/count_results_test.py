"""Tests of count_results.py on build events of each kind."""
import json
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import count_results  # noqa: E402


class CountTest(unittest.TestCase):
    def result(self, status, xml=None):
        outputs = []
        if xml is not None:
            handle, path = tempfile.mkstemp(suffix=".xml", dir=os.environ.get("TEST_TMPDIR"))
            with os.fdopen(handle, "w") as file:
                file.write(xml)
            outputs = [{"name": "test.xml", "uri": "file://" + path}]
        return json.dumps({"id": {"testResult": {}}, "testResult": {"status": status, "testActionOutput": outputs}})

    def test_cases_are_counted_one_by_one(self):
        xml = ('<testsuites><testsuite><testcase/><testcase><failure/></testcase>'
               '<testcase result="skipped"/></testsuite></testsuites>')
        self.assertEqual(count_results.count([self.result("FAILED", xml)]), [1, 1, 1])

    def test_a_crash_or_a_timeout_without_a_failed_case_counts_as_one(self):
        self.assertEqual(count_results.count([self.result("TIMEOUT")]), [0, 1, 0])
        self.assertEqual(count_results.count([self.result("FAILED", "<testsuites><testcase/>cut")]), [0, 1, 0])

    def test_a_passed_test_without_cases_counts_as_one(self):
        self.assertEqual(count_results.count([self.result("PASSED")]), [1, 0, 0])

    def test_a_target_that_was_not_built_failed(self):
        event = json.dumps({"id": {"testSummary": {}}, "testSummary": {"overallStatus": "FAILED_TO_BUILD"}})
        self.assertEqual(count_results.count([event]), [0, 1, 0])


if __name__ == "__main__":
    unittest.main()
