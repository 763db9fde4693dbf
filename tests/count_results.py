#!/usr/bin/env python3
"""Counts test cases from Bazel's build events, and prints "N passed, N failed" (and ", N skipped").

  count_results.py EVENTS.json BAZEL_EXIT_CODE

A test that crashed or timed out counts as a failure of its own, if none of its cases shows one, and so does every target
that wasn't built, and a GoogleTest program that ended well before all its cases had run. Whatever else Bazel failed for
counts as one failure. Exits with 0 only when nothing failed.
"""
import json
import sys
import urllib.parse
import xml.etree.ElementTree


def parse_xml(event):
    """The root of a testResult's test.xml; None where there is none, or half of one."""
    for output in event["testResult"].get("testActionOutput", []):
        if output["name"] == "test.xml":
            try:
                path = urllib.parse.unquote(urllib.parse.urlparse(output["uri"]).path)
                return xml.etree.ElementTree.parse(path).getroot()
            except (OSError, xml.etree.ElementTree.ParseError):
                return None
    return None


def count_cases(root):
    """The passed, failed and skipped cases of one test.xml."""
    passed = failed = skipped = 0
    for case in [] if root is None else root.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.get("result") == "skipped" or case.get("status") == "notrun" or case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def count_result(event, kind):
    """The counts of one run of a test target of that kind ("cc_test rule")."""
    root = parse_xml(event)
    passed, failed, skipped = count_cases(root)
    if event["testResult"].get("status") != "PASSED":
        return passed, max(failed, 1), skipped
    # GoogleTest writes its file at the end; where it didn't, Bazel makes one that knows no cases.
    if kind == "cc_test rule" and (root is None or root.get("name") != "AllTests"):
        print(f"{event['id']['testResult'].get('label')} ended before all its tests had run", file=sys.stderr)
        return 0, 1, 0
    return (passed, failed, skipped) if passed + failed + skipped > 0 else (1, 0, 0)


def count(events):
    """The totals over all targets of a stream of build events."""
    kinds = {}
    total = [0, 0, 0]
    for line in events:
        event = json.loads(line)
        label = event["id"]
        counts = (0, 0, 0)
        if "targetConfigured" in label and "configured" in event:
            kinds[label["targetConfigured"]["label"]] = event["configured"].get("targetKind")
        elif "testResult" in label and "testResult" in event:
            counts = count_result(event, kinds.get(label["testResult"].get("label")))
        elif "targetCompleted" in label:
            built = event.get("completed", {}).get("success", False)
            skipped = event.get("aborted", {}).get("reason") == "SKIPPED"
            counts = (0, 0 if built or skipped else 1, 0)
        total = [a + b for a, b in zip(total, counts)]
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
