#!/bin/sh
# Runs a Python test with the system's python3.
exec python3 "$@"
