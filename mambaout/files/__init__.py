"""Files and downloads: the book's data, found and verified, and released checkpoints, fetched once and checked."""
