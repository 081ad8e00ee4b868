"""What one GPU does with this code: run as `python -m benchmarks.gpu`."""
