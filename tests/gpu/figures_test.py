"""The arithmetic of the GPU scenarios' tables, with invented numbers."""
import contextlib
import io
import json
import tempfile
import types
import unittest

import gtests
import scenarios
import show
import speeds

NCU = '''==PROF== Connected to process 7
"ID","Process ID","Kernel Name","gpu__time_duration.sum","dram__bytes_read.sum"
"","","","ns","byte"
"0","7","void penstock::cuda::Kernel<float, 4>(int)","1200","4096"
"1","7","gemm","9","1"
==PROF== Disconnected
'''


def samples(**fields):
    return {f'penstock_worker_operation_{field}_total{{operation="{operation}"}}': value
            for field, values in fields.items() for operation, value in values.items()}


class FiguresTest(unittest.TestCase):

    def test_operations_beside_what_is_possible(self):
        # 10 steps. The first 4 calls of `wide` were slow; `copy` is bound by memory, `wide` by its product.
        first = samples(calls={"wide": 4, "copy": 2}, seconds={"wide": 1.0, "copy": 0.002})
        last = samples(calls={"wide": 20, "copy": 10}, seconds={"wide": 1.0 + 16e-3, "copy": 0.010},
                       flops={"wide": 20 * 5e8, "copy": 0}, bytes={"wide": 20, "copy": 10 * 1e9})
        table = speeds.operation_table(first, last, 10, 0.004, types.SimpleNamespace(product=1e12, copy=2e12))
        wide, copy = table["rows"]
        self.assertEqual((wide["operation"], wide["calls_per_step"]), ("wide", 2))
        self.assertEqual((wide["us"], wide["best_us"]), (1000, 500))
        self.assertEqual((wide["tflops"], wide["ms_per_step"], wide["lost_ms_per_step"]), (0.5, 2, 1))
        self.assertEqual((copy["us"], copy["best_us"], copy["gb_per_second"]), (1000, 500, 1000))
        self.assertEqual((table["step_ms"], table["operations_ms"], table["between_ms"]), (4, 3, 1))

    def test_counters(self):
        kernel, product = speeds.parse_counters(NCU)
        self.assertEqual(kernel, {"kernel": "void penstock::cuda::Kernel<float, 4>(int)",
                                  "gpu__time_duration.sum": "1200", "dram__bytes_read.sum": "4096"})
        self.assertEqual(product["kernel"], "gemm")
        with self.assertRaises(StopIteration):
            speeds.parse_counters("==ERROR== ERR_NVGPUCTRPERM\n")

    def test_parity(self):
        row = ("fp32", "fp32", 1, 1, 1, 1, "service", None)
        good = {"digest": "a", "losses": [4.0, 2.0]}
        near = {"digest": "b", "losses": [4.0, 2.0001]}
        nan = {"digest": "c", "losses": [4.0, float("nan")]}
        self.assertTrue(scenarios.compare(row, near, good, 2)["passed"])
        self.assertFalse(scenarios.compare(row, nan, good, 2)["passed"])
        self.assertFalse(scenarios.compare(row, near, good, 3)["passed"])
        failed = scenarios.compare(row, {"error": "no device"}, good, 2)
        self.assertEqual((failed["passed"], failed["device"]), (False, {"error": "no device"}))

    def test_a_report_for_people(self):
        case = {"case": "A.B/Cuda", "exit": 1, "output": "[ RUN ]\nlinear_test.cc:7: Failure\n"}
        kernels = [{"kernel": "copy", "us": 1.5, "gflop": 0.0, "megabytes": 2.0, "gb_per_second": 4000.1234}]
        report = {
            "revision": "abc", "card": {"name": "A100"}, "good": False, "left_out": ["sanitizer"],
            "parts": [{"part": part, "good": False, "seconds": 1.5} for part in ("tests", "operations", "links")],
            "goals": {"operations": [{"name": "adamw", "value": 0.9, "at_least": 0.85, "met": True}]},
            "tests": {"tests": [{"name": "linear_gpu_test", "exit": -11, "ended_in": "A.B/Cuda", "alone": [case]}]},
            "operations": {"passed": True, "speed_124m": {"kernels": kernels,
                                                          "product_choices_us": {"product": [4.0, 3.0, None]}}},
            "links": {"passed": False, "rows": [{"nccl": {"error": "no NCCL"}}]}}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file, contextlib.redirect_stdout(io.StringIO()) as out:
            json.dump(report, file)
            file.flush()
            self.assertEqual(show.show(file.name), 0)
        for words in ["A100, BAD; left out: sanitizer", "linear_gpu_test ends with -11 in A.B/Cuda",
                      "A.B/Cuda, alone: 1 linear_test.cc:7: Failure", "adamw", "4000.123", "25.0",
                      "links, rows, 0, nccl: no NCCL"]:
            self.assertIn(words, out.getvalue())

    def test_names_of_cases(self):
        self.assertEqual(gtests.listed("Running main()\nA/B.\n  C/Cuda  # GetParam() = x\n  D\nE.\n  F\n"),
                         ["A/B.C/Cuda", "A/B.D", "E.F"])
        said = gtests.outcomes("[ RUN      ] A.B\n[       OK ] A.B (0 ms)\n[ RUN      ] A.C\n"
                               "[  FAILED  ] A.C, where x\n"
                               "[  FAILED  ] 1 test, listed below:\n[ RUN      ] A.D\n")
        self.assertEqual(said, {"A.B": "OK", "A.C": "FAILED", "A.D": "RUN"})


if __name__ == "__main__":
    unittest.main()
