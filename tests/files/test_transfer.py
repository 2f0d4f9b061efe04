"""Downloads from servers that do not behave, onto disks that do not either."""

import hashlib
import os
import re
import socket
import time
from pathlib import Path

import pytest
from misbehaving import CONTENT, HALF, MISBEHAVIOURS, head, says, serve

from mambaout.files import transfer
from mambaout.files.transfer import DownloadError, StorageError, download

DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT", 0.3)


def kept(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".download.lock"}


good = says(head() + CONTENT)


def test_a_whole_file_is_kept_and_nothing_beside_it(tmp_path: Path) -> None:
    with serve(good) as (url, requests):
        download(url, tmp_path / "a/x.bin", sha256=DIGEST, size=len(CONTENT), progress=False)
    assert (tmp_path / "a/x.bin").read_bytes() == CONTENT and kept(tmp_path / "a") == {"x.bin"}
    assert len(requests) == 1 and b"Accept-Encoding: identity" in requests[0]


@pytest.mark.parametrize("how", MISBEHAVIOURS)
def test_no_other_answer_is_kept(how: str, tmp_path: Path) -> None:
    answer, message = MISBEHAVIOURS[how]
    (tmp_path / "x.bin").write_bytes(b"before")
    with serve(answer) as (url, _), pytest.raises(DownloadError, match=re.escape(message)) as error:
        download(url, tmp_path / "x.bin", sha256=DIGEST, size=len(CONTENT), progress=False)
    assert url in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "x.bin").read_bytes() == b"before"
    assert kept(tmp_path) <= {"x.bin", ".x.bin.partial"}


@pytest.mark.parametrize("how", MISBEHAVIOURS)
def test_where_nothing_is_known_of_the_file_the_callers_check_decides(how: str, tmp_path: Path) -> None:
    def check(path: Path) -> None:
        if path.read_bytes() != CONTENT:
            raise ValueError("it is not whole")

    with serve(MISBEHAVIOURS[how][0]) as (url, _), pytest.raises(DownloadError):
        download(url, tmp_path / "x.bin", limit=2**20, check=check, progress=False)
    assert kept(tmp_path) == set()


@pytest.mark.parametrize("honours", [True, False])
def test_a_transfer_that_broke_off_goes_on(honours: bool, tmp_path: Path) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        """Half the file first; then the other half, or all of it."""
        if b"Range:" not in request:
            connection.sendall(head() + CONTENT[:HALF])
        elif honours:
            connection.sendall(head("206 Partial Content", HALF) + CONTENT[HALF:])
        else:
            connection.sendall(head() + CONTENT)

    with serve(answer) as (url, requests):
        download(url, tmp_path / "x.bin", sha256=DIGEST, size=len(CONTENT), progress=False)
    assert len(requests) == 2 and b"Range: bytes=51200-" in requests[1]
    assert (tmp_path / "x.bin").read_bytes() == CONTENT and kept(tmp_path) == {"x.bin"}


def test_a_later_call_goes_on_too_unless_no_digest_would_tell_whether_the_parts_belong_together(tmp_path: Path) -> None:
    (tmp_path / ".x.bin.partial").write_bytes(CONTENT[:HALF])
    with serve(says(head("206 Partial Content", HALF) + CONTENT[HALF:])) as (url, requests):
        download(url, tmp_path / "x.bin", sha256=DIGEST, progress=False)
    assert b"Range: bytes=51200-" in requests[0] and (tmp_path / "x.bin").read_bytes() == CONTENT
    (tmp_path / ".y.bin.partial").write_bytes(CONTENT[:HALF])
    with serve(good) as (url, requests):
        download(url, tmp_path / "y.bin", progress=False)
    assert b"Range:" not in requests[0] and (tmp_path / "y.bin").read_bytes() == CONTENT


def test_a_part_of_another_file_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / ".x.bin.partial").write_bytes(bytes(HALF))

    def answer(connection: socket.socket, request: bytes) -> None:
        asked = b"Range:" in request
        whole = head() + CONTENT
        connection.sendall(head("206 Partial Content", HALF) + CONTENT[HALF:] if asked else whole)

    with serve(answer) as (url, requests):
        download(url, tmp_path / "x.bin", sha256=DIGEST, size=len(CONTENT), progress=False)
    assert len(requests) == 2 and (tmp_path / "x.bin").read_bytes() == CONTENT


def test_what_was_left_unfinished_is_removed_after_a_day(tmp_path: Path) -> None:
    for name, hours in ((".old.bin.partial", 25), (".young.bin.partial", 1)):
        (tmp_path / name).write_bytes(b"part")
        os.utime(tmp_path / name, (0, time.time() - 3600 * hours))
    with serve(good) as (url, _):
        download(url, tmp_path / "x.bin", sha256=DIGEST, progress=False)
    assert kept(tmp_path) == {"x.bin", ".young.bin.partial"}


def test_a_full_disk_and_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / ".x.bin.partial").symlink_to("/dev/full")  # a real "No space left on device"
    (tmp_path / "file").write_text("")
    with serve(good) as (url, _):
        with pytest.raises(StorageError, match=r"cannot write .*partial \(No space left on device\): choose"):
            download(url, tmp_path / "x.bin", progress=False)
        for place in (tmp_path / "file/x.bin", Path("/proc/mambaout/x.bin")):
            with pytest.raises(StorageError, match="cannot write to the folder .*: choose another"):
                download(url, place, progress=False)
    assert kept(tmp_path) == {"file"}
