"""The kernels' names: each is a header and a .cu file."""

KERNELS = [
    "adamw",
    "attention",
    "attention_plain",
    "attention_tensor",
    "attention_tensor_gradient",
    "column_sum",
    "cross_entropy",
    "dropout",
    "elementwise",
    "embedding",
    "layer_norm",
    "ordered_sum",
    "plain_product",
    "square_sum",
    "token_order",
]

HEADERS = [
    "adamw_constants.h",
    "adamw_element.h",
    "attention_sizes.h",
    "bf16.h",
    "host_device.h",
    "launch.h",
] + [name + ".h" for name in KERNELS]

# For .cu files alone.
PRIVATE_HEADERS = [
    "attention_head.cuh",
    "attention_tensor.cuh",
    "column_sum.cuh",
    "common.cuh",
    "mma.cuh",
]
