"""Speed and memory of this code on one GPU: run as `python -m benchmarks.gpu`."""
