"""A mesh on one machine, with a web container and sample services: for the demo, the tests and the benchmarks."""
