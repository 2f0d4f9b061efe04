"""The repository's address: one place, derived copies, and a Colab cell that does what it says."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "book" / "_ext")]

import repository  # noqa: E402
from book_ext import address  # noqa: E402

URL = "https://github.com/someone/some-book"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the files that hold the address, in the state before it is known."""
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("Repository = ")]
    (tmp_path / "pyproject.toml").write_text("".join(kept), "utf-8")
    (tmp_path / "book").mkdir()
    for notebook in (ROOT / "book").glob("*.ipynb"):
        shutil.copy(notebook, tmp_path / "book")
    repository.main(["--refresh"], tmp_path)
    return tmp_path


def first_code_cell(notebook: Path) -> str:
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return "".join(next(cell["source"] for cell in cells if cell["cell_type"] == "code"))


@pytest.mark.parametrize("text", [URL, f"{URL}/", f"{URL}.git", f"  {URL}\n"])
def test_addresses_are_brought_to_one_form(text: str) -> None:
    assert repository.parse_url(text) == URL


@pytest.mark.parametrize(
    "text",
    ["", "someone/some-book", "https://github.com/someone", f"{URL}/tree/main", "http://github.com/a/b",
     "https://example.org/a/b", 'https://github.com/a/b"; import os; "', "https://github.com/-a/b"],
)  # fmt: skip
def test_other_addresses_are_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="Expected an address like"):
        repository.parse_url(text)


def test_setting_the_address_changes_one_line_and_the_cells(copy: Path) -> None:
    before = tomllib.loads((copy / "pyproject.toml").read_text("utf-8"))
    repository.main([f"{URL}.git"], copy)
    after = tomllib.loads((copy / "pyproject.toml").read_text("utf-8"))
    assert after["project"].pop("urls")["Repository"] == URL
    before["project"].pop("urls", None)
    assert after == before

    other = "https://github.com/someone-else/book"
    repository.main([other], copy)
    assert repository.read_url(copy) == other
    notebooks = sorted((copy / "book").glob("*.ipynb"))
    assert notebooks
    for notebook in notebooks:
        assert first_code_cell(notebook) == repository.cell(other)


def test_refreshing_leaves_the_rest_of_a_chapter_alone(copy: Path) -> None:
    before = {path: path.read_text("utf-8") for path in (copy / "book").glob("*.ipynb")}
    repository.main([URL], copy)
    assert {path: path.read_text("utf-8").replace(URL, "") for path in before} == before


def test_the_command_line_explains_itself() -> None:
    command = [sys.executable, "tools/repository.py", ""]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith("Expected an address like https://github.com/OWNER/NAME")
    assert "Traceback" not in run.stderr


class Colab:
    """A stand-in for Colab that records what the cell does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commands: list[list[str]] = []
        self.folders: list[str] = []
        self.widgets = 0
        google, colab, output = map(ModuleType, ("google", "google.colab", "google.colab.output"))
        output.enable_custom_widget_manager = self.enable  # type: ignore[attr-defined]
        colab.output = output  # type: ignore[attr-defined]
        google.colab = colab  # type: ignore[attr-defined]
        for module in (google, colab, output):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setattr(subprocess, "run", lambda command, check: self.commands.append(command))
        monkeypatch.setattr(os, "chdir", self.folders.append)

    def enable(self) -> None:
        self.widgets += 1


def test_the_cell_does_nothing_outside_colab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("the cell ran a command"))
    names: dict[str, object] = {}
    exec(repository.cell(URL), names)
    assert names.keys() - {"__builtins__"} == {"sys"}


def test_the_cell_says_what_to_do_where_the_address_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    colab = Colab(monkeypatch)
    with pytest.raises(RuntimeError, match="make repository URL="):
        exec(repository.cell(""), {})
    assert colab.commands == []


def test_the_cell_prepares_colab(monkeypatch: pytest.MonkeyPatch) -> None:
    colab = Colab(monkeypatch)
    exec(repository.cell(URL), {})
    clone, install = colab.commands
    assert clone == ["git", "clone", "--quiet", "--depth", "1", URL, "/content/mambaout-book"]
    assert install[:4] == [sys.executable, "-m", "pip", "install"]
    assert install[-1] == "/content/mambaout-book[book]"
    assert not {"--upgrade", "-U", "torch"} & set(install), "the preinstalled torch must stay"
    assert sys.path[0] == "/content/mambaout-book"
    assert colab.folders == ["/content/mambaout-book/book"]
    assert colab.widgets == 1


def test_the_cell_is_short() -> None:
    assert len(repository.cell(URL).splitlines()) <= 20
    assert max(map(len, repository.cell(URL).splitlines())) <= 110


def configure(root: Path) -> dict[str, object]:
    """The theme's options after the extension has set the address; before, they name jupyter-book's."""
    options: dict[str, object] = {
        "repository_url": "https://github.com/executablebooks/jupyter-book",
        "repository_branch": "master",
        "launch_buttons": {"colab_url": ""},
        "use_repository_button": False,
    }
    address.configure(SimpleNamespace(srcdir=root), SimpleNamespace(html_theme_options=options))  # type: ignore[arg-type]
    return options


def test_without_an_address_the_book_links_nowhere(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert configure(copy) == {"use_repository_button": False}


def test_with_an_address_the_book_links_to_it(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    repository.main([URL], copy)
    options = configure(copy)
    assert options["repository_url"] == URL
    assert options["repository_branch"] == "main"
    assert options["use_repository_button"] is True
    assert options["launch_buttons"] == {"colab_url": "https://colab.research.google.com"}


def test_actions_give_the_address_in_the_environment(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.main([URL], copy)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "a-fork/some-book")
    options = configure(copy)
    assert options["repository_url"] == "https://github.com/a-fork/some-book"
    assert options["repository_branch"] == "colab"
