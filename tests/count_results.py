#!/usr/bin/env python3
"""Counts test cases from Bazel's build events, and prints "N passed, N failed" (and ", N skipped").

  count_results.py EVENTS.json BAZEL_EXIT_CODE

A test target that crashed, timed out or wasn't built counts as a failure of its own, if none of its cases shows one; a
build that failed without any such target counts as one failure. Exits with 0 only when nothing failed.
"""
import json
import sys
import urllib.parse
import xml.etree.ElementTree


def count_cases(path):
    """The passed, failed and skipped cases of one test.xml."""
    passed = failed = skipped = 0
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.get("result") == "skipped" or case.get("status") == "notrun" or case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def count(events):
    """The totals over all test targets of a stream of build events."""
    total = [0, 0, 0]
    for line in events:
        event = json.loads(line)
        label = event["id"]
        if "testResult" in label:
            xml_files = [o["uri"] for o in event["testResult"].get("testActionOutput", []) if o["name"] == "test.xml"]
            cases = (0, 0, 0)
            for uri in xml_files:
                try:
                    cases = count_cases(urllib.parse.unquote(urllib.parse.urlparse(uri).path))
                except (OSError, xml.etree.ElementTree.ParseError):
                    pass
            good = event["testResult"].get("status") == "PASSED"
            if not good and cases[1] == 0:
                cases = (cases[0], 1, cases[2])
            if good and sum(cases) == 0:
                cases = (1, 0, 0)
            total = [a + b for a, b in zip(total, cases)]
        elif "testSummary" in label:
            if event["testSummary"].get("overallStatus") == "FAILED_TO_BUILD" or event["testSummary"].get("totalRunCount", 0) == 0:
                total[1] += 1
    return total


def main():
    with open(sys.argv[1], encoding="utf-8") as events:
        passed, failed, skipped = count(events)
    if int(sys.argv[2]) != 0 and failed == 0:
        failed = 1
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    sys.exit(0 if failed == 0 else 1)


if __name__ == "__main__":
    main()
