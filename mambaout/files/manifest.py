"""Write `manifest.csv` from the files below `data/`: `python -m mambaout.files.manifest`."""

import csv
import hashlib
from pathlib import Path

from mambaout.files.data import Entry, repository_root

# The authors' own address (a plain S3 site without TLS: the SHA-256 is what protects the bytes).
_FASHION_MNIST = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"


def scan(data: Path) -> list[Entry]:
    """One entry for each file below `data`, except the READMEs, sorted by name."""
    entries = []
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        name = path.relative_to(data).as_posix()
        if path.name == "README.md" or path.name.startswith("."):
            continue
        content = path.read_bytes()
        from_origin = name.startswith("fashion-mnist/") and path.suffix == ".gz"
        url = _FASHION_MNIST + path.name if from_origin else None
        entries.append(Entry(name, len(content), hashlib.sha256(content).hexdigest(), url))
    return entries


def main() -> None:
    """Write the manifest of this checkout."""
    root = repository_root()
    if root is None:
        raise SystemExit(
            "The manifest is written from a checkout of the repository; this package is installed elsewhere."
        )
    with Path(__file__).with_name("manifest.csv").open("w", encoding="utf-8", newline="") as output:
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow(["name", "bytes", "sha256", "url"])
        writer.writerows((file.name, file.bytes, file.sha256, file.url or "") for file in scan(root / "data"))


if __name__ == "__main__":
    main()
