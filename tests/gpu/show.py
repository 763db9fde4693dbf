#!/usr/bin/env python3
"""The report of tests/gpu/run as tables: what failed, which goals are met, where the time goes.

    tests/gpu/show.py REPORT
"""
import json
import sys


def table(title, rows, columns):
    """Rows of dictionaries, under the names of their columns."""
    if not rows:
        return
    print(f"\n{title}")
    cells = [[str(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)]
    for line in [columns, *cells]:
        print("  " + "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(line, widths))).rstrip())


def show_tests(name, result):
    for test in result.get("tests", []):
        if test["exit"] == 0:
            continue
        print(f"\n{name}: {test['name']} ends with {test['exit']}" +
              (f" in {test['ended_in']}" if "ended_in" in test else ""))
        for case in test.get("alone", []):
            words = next((line for line in case.get("output", "").splitlines() if "Failure" in line), "")
            print(f"  {case['case']}, alone: {case['exit']} {words}")


def show_errors(path, value):
    """Every error in a scenario's result, with where it stands."""
    if isinstance(value, dict):
        if isinstance(value.get("error"), str):
            print(f"\n{path}: {value['error'][:1500]}")
        for key, inner in value.items():
            show_errors(f"{path}, {key}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            show_errors(f"{path}, {index}", inner)


def show_operations(result):
    for size, measured in result.items():
        if not isinstance(measured, dict) or "kernels" not in measured:
            continue
        table(f"operations, {size}", [{key: round(value, 3) if isinstance(value, float) else value
                                       for key, value in kernel.items()} for kernel in measured["kernels"]],
              ["kernel", "us", "gflop", "megabytes", "tflops", "of_product", "gb_per_second", "of_copy"])
        choices = []
        for name, times in measured.get("product_choices_us", {}).items():
            known = [time for time in times if isinstance(time, float)]
            if known and known[0] == times[0]:
                choices.append({"product": name, "first": round(times[0], 1), "best": round(min(known), 1),
                                "which": times.index(min(known)),
                                "gain_%": round(100 * (1 - min(known) / times[0]), 1)})
        table(f"cuBLASLt's suggestions, us, {size}", choices, ["product", "first", "best", "which", "gain_%"])


def show(path):
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    print(f"revision {report['revision'][:12]}, card {report['card'].get('name', report['card'])}, "
          f"{'good' if report['good'] else 'BAD'}; left out: {', '.join(report['left_out']) or 'nothing'}")
    table("parts", report["parts"], ["part", "good", "seconds"])
    goals = [{"part": part, **goal} for part, goals in report.get("goals", {}).items() for goal in goals]
    table("goals", goals, ["name", "value", "at_least", "at_most", "met", "part"])
    show_tests("tests", report.get("tests", {}))
    for check, result in report.get("sanitizer", {}).items():
        if isinstance(result, dict):
            show_tests(check, result)
    for part in report["parts"]:
        if part["part"] not in ("tests", "sanitizer"):
            show_errors(part["part"], report[part["part"]])
    show_operations(report.get("operations", {}))
    for name in ("speed_124m", "speed_1b"):
        times = report.get(name, {}).get("operations", {})
        if "rows" in times:
            title = f"{name}: a step of {times['step_ms']} ms, {times['between_ms']} ms between operations"
            table(title, times["rows"],
                  ["operation", "calls_per_step", "us", "best_us", "ms_per_step", "lost_ms_per_step", "tflops",
                   "gb_per_second"])
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    sys.exit(show(sys.argv[1]))
