"""What all benchmarks share; the timing itself is that of the studies, `mambaout.studies.measure`."""

THREADS = 2  # the machine that the book is written for
