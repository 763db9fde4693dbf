"""The operations' tests: each backend builds them with its own AllBackends."""

OPERATION_TESTS = [
    "attention_test",
    "backend_test",
    "bfloat16_test",
    "dropout_test",
    "elementwise_test",
    "embedding_test",
    "layer_norm_test",
    "linear_cross_entropy_test",
    "linear_test",
]
