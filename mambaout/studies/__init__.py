"""The experiments behind the book's claims: one module each, one file in ``data/results/`` each."""
