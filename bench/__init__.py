"""Benchmarks of the server beside the same work done raw; see docs/performance.md."""
