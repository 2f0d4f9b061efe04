"""Finding, checking and downloading data files."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torchvision.datasets import FashionMNIST as TorchvisionFashionMNIST

from mambaout.cli import main
from mambaout.files import data as files
from mambaout.files.data import DataError, find
from mambaout.files.manifest import scan

NAME = "paper/models.csv"
CONTENT = b"model,top1\na,1\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
DATA = Path(__file__).parents[2] / "data"


def entry_at(url: str | None, name: str = NAME) -> dict[str, files.Entry]:
    return {name: files.Entry(name, len(CONTENT), DIGEST, url)}


def place(folder: Path, content: bytes) -> Path:
    path = folder / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def use(monkeypatch: pytest.MonkeyPatch, entries: dict[str, files.Entry]) -> None:
    monkeypatch.setattr(files, "manifest", lambda: entries)


# The repository's own files


def test_manifest_agrees_with_the_files() -> None:
    found = {entry.name: entry for entry in scan(DATA)}
    assert found == files.manifest(), "run `python -m mambaout.files.manifest`"


def test_readme_tells_every_folder() -> None:
    rows = [line for line in (DATA / "README.md").read_text().splitlines() if line.startswith("| `")]
    told = {row.split("`")[1].rstrip("/") for row in rows}
    assert told == {path.name for path in DATA.iterdir() if path.is_dir()}


def test_data_stay_small() -> None:
    assert sum(entry.bytes for entry in files.manifest().values()) < 45e6


def test_fashion_mnist_is_the_authors_own() -> None:
    for name, md5 in TorchvisionFashionMNIST.resources:
        assert hashlib.md5((DATA / "fashion-mnist" / name).read_bytes()).hexdigest() == md5
        address = files.manifest()[f"fashion-mnist/{name}"].url
        assert address in [mirror + name for mirror in TorchvisionFashionMNIST.mirrors]


def test_find_returns_the_checkout() -> None:
    assert find(NAME) == DATA / NAME


@pytest.mark.parametrize("name", ["paper/imagnet.csv", "imagenet.csv"])
def test_unknown_name_lists_the_near_ones(name: str) -> None:
    with pytest.raises(DataError, match=r"paper/imagenet\.csv"):
        find(name)


# A broken file in a checkout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(files, "repository_root", lambda: tmp_path)
    use(monkeypatch, entry_at(None))
    return tmp_path / "data"


def test_good_file_is_found(checkout: Path) -> None:
    path = place(checkout, CONTENT)
    assert find(NAME) == path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (CONTENT[:-3], r"truncated: expected 15 bytes, found 12"),
        (CONTENT + b"x", r"too long: expected 15 bytes, found 16"),
        (CONTENT.replace(b"1", b"2"), rf"altered: expected SHA-256 {DIGEST}, found [0-9a-f]{{64}}"),
        (None, r"is missing"),
    ],
)
def test_broken_file_is_named_with_its_cure(checkout: Path, content: bytes | None, expected: str) -> None:
    if content is not None:
        place(checkout, content)
    with pytest.raises(DataError, match=expected) as error:
        find(NAME)
    assert str(checkout / NAME) in str(error.value)
    assert f"mambaout fetch {NAME}" in str(error.value)


def test_a_file_that_changes_is_checked_again(checkout: Path) -> None:
    path = place(checkout, CONTENT)
    find(NAME)
    path.write_bytes(CONTENT.replace(b"a", b"b"))
    with pytest.raises(DataError, match="altered"):
        find(NAME)


def test_results_of_a_checkout_need_no_manifest(checkout: Path) -> None:
    (checkout / "results").mkdir(parents=True)
    (checkout / "results/new.csv").write_text("study\n")
    assert find("results/new.csv") == checkout / "results/new.csv"
    with pytest.raises(DataError, match=r"results/other\.csv.*studies"):
        find("results/other.csv")


@pytest.mark.parametrize("name", ["results/../../secret", "/etc/passwd", "results/..", "..\\x", "c:x", "results/\0"])
def test_names_stay_inside_the_folder(name: str, checkout: Path) -> None:
    checkout.mkdir(exist_ok=True)
    (checkout.parent / "secret").write_text("")
    with pytest.raises(DataError, match="is no name of a data file"):
        find(name)


# Installed elsewhere


def test_rows_of_a_study_are_never_overwritten(
    installed: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "results/recall.csv"
    use(monkeypatch, entry_at(f"{server[1]}/{NAME}", name))
    place(server[0], CONTENT)
    (installed / "results").mkdir(parents=True)
    (installed / name).write_text("my own rows")
    assert find(name) == installed / name and files.check(files.manifest()[name]) is None
    with pytest.raises(DataError, match="may hold the rows of a study of yours: move it away"):
        files.fetch(name)
    assert main(["fetch", "results"]) == 0
    assert (installed / name).read_text() == "my own rows"
    (installed / name).unlink()
    assert find(name).read_bytes() == CONTENT


def test_a_place_that_cannot_be_written_to_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "repository_root", lambda: None)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAMBAOUT_DATA", str(tmp_path / "file/data"))
    use(monkeypatch, entry_at("http://127.0.0.1:9/x"))
    with pytest.raises(DataError, match=r"^paper/models.csv was not downloaded: cannot write to the folder [^;]*$"):
        find(NAME)


def test_cache_is_torch_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "repository_root", lambda: None)
    monkeypatch.delenv("MAMBAOUT_DATA", raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    assert files.data_dir() == tmp_path / "mambaout/data"


def test_missing_file_is_downloaded_once(
    installed: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    place(folder, CONTENT)
    use(monkeypatch, entry_at(f"{address}/{NAME}"))
    assert find(NAME) == installed / NAME
    assert (installed / NAME).read_bytes() == CONTENT
    (folder / NAME).unlink()
    assert find(NAME) == installed / NAME


def test_repository_is_asked_when_the_origin_fails(
    installed: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    place(folder, CONTENT)
    use(monkeypatch, entry_at(f"{address}/gone.csv"))
    monkeypatch.setattr(files, "_repository_url", lambda name: f"{address}/{name}")
    assert find(NAME).read_bytes() == CONTENT


def test_wrong_bytes_are_refused(
    installed: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    place(folder, CONTENT[::-1])
    use(monkeypatch, entry_at(f"{address}/{NAME}"))
    with pytest.raises(DataError, match=rf"{NAME} could not be downloaded.*other bytes than expected"):
        find(NAME)
    assert [path.name for path in installed.rglob("*") if path.is_file()] == [".download.lock"]


def test_failed_download_keeps_what_was_there(
    installed: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place(installed, b"old")
    use(monkeypatch, entry_at(f"{server[1]}/{NAME}"))
    with pytest.raises(DataError, match="truncated"):
        find(NAME)
    with pytest.raises(DataError, match="404"):
        files.fetch(NAME)
    assert (installed / NAME).read_bytes() == b"old"


def test_fetch_replaces_a_broken_file(
    installed: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place(installed, b"old")
    place(server[0], CONTENT)
    use(monkeypatch, entry_at(f"{server[1]}/{NAME}"))
    assert files.fetch(NAME, progress=False).read_bytes() == CONTENT


def test_offline_is_told(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 9 of this computer: nobody listens, the connection is refused at once.
    use(monkeypatch, entry_at(f"http://127.0.0.1:9/{NAME}"))
    with pytest.raises(DataError, match=r"cannot be reached.*MAMBAOUT_DATA"):
        find(NAME)


def test_no_address_is_told(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, entry_at(None))
    with pytest.raises(DataError, match=r"no download address.*MAMBAOUT_DATA"):
        find(NAME)


# The repository's address


class FakePackage:
    def __init__(self, links: list[str], direct_url: dict[str, object] | None = None) -> None:
        self.links, self.direct_url = links, direct_url

    @property
    def metadata(self) -> "FakePackage":
        return self

    def get_all(self, name: str) -> list[str]:
        assert name == "Project-URL"
        return self.links

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return json.dumps(self.direct_url) if self.direct_url else None


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        (
            FakePackage(
                ["Documentation, https://example.org", "Repository, https://github.com/someone/book"]
            ),
            f"https://raw.githubusercontent.com/someone/book/HEAD/data/{NAME}",
        ),
        (
            FakePackage(
                [], {"url": "https://github.com/someone/book.git", "vcs_info": {"commit_id": "abc123"}}
            ),
            f"https://raw.githubusercontent.com/someone/book/abc123/data/{NAME}",
        ),
        (FakePackage([], {"url": "file:///home/someone/book", "dir_info": {}}), None),
        (FakePackage([]), None),
    ],
)
def test_repository_address(
    package: FakePackage, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.metadata, "distribution", lambda name: package)
    assert files._repository_url(NAME) == expected
