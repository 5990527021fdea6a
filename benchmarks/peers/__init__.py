"""The benchmarks of raincheck and its peers."""
