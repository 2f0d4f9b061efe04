"""Speed against peers: ``python -m benchmarks`` measures, and writes ``benchmarks/results/``."""
