"""The kernels' names: each is a header and a .cu file."""

KERNELS = [
    "adamw",
    "attention",
    "column_sum",
    "cross_entropy",
    "elementwise",
    "embedding",
    "layer_norm",
    "ordered_sum",
    "square_sum",
]

HEADERS = [
    "adamw_constants.h",
    "adamw_element.h",
    "bf16.h",
    "launch.h",
] + [name + ".h" for name in KERNELS]
