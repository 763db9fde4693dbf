#!/usr/bin/env python3
"""Makes the *.safetensors files beside it with the format's own library: what safetensors_test.cc reads.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install numpy safetensors && /tmp/venv/bin/python make_fixtures.py
"""
import pathlib

import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent


def main():
    # The library sorts by alignment and name, so the order in the file isn't this one.
    save_file(
        {
            "wte": np.arange(12, dtype=np.float32).reshape(4, 3) / 8,
            "ids": np.array([1, -2, 3], dtype=np.int64),
            "mask": np.array([True, False, True, True, False]),
            "half": np.array([0.5, -1.5], dtype=np.float16),
            "bytes": np.arange(7, dtype=np.uint8),
            "scalar": np.array(2.5),
            "empty": np.zeros((0, 5), dtype=np.float32),
            "ünïcode \"quoted\"": np.array([7], dtype=np.int32),
        },
        HERE / "mixed.safetensors",
        metadata={"format": "np", "note": "line\nbreak"},
    )
    save_file({}, HERE / "no_tensors.safetensors")


if __name__ == "__main__":
    main()
