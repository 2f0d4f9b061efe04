"""The built book in a browser: offline, quiet, accessible, and alive. `make book` builds it first."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from browser import axe_violations
from bs4 import BeautifulSoup

from mambaout.analysis import claims
from mambaout.analysis.paper import table

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from book_ext.address import COLAB, find_repository  # noqa: E402

# index.html only leads on to the book's first page, and so is no page of its own.
PAGES = sorted(str(path.relative_to(HTML)) for path in HTML.rglob("*.html") if "_static" not in path.parts)
PAGES = [page for page in PAGES if page != "index.html"]
SCREENS = [(width, mode) for width in (1280, 390) for mode in ("light", "dark")]
HOSTS = ".widget-host"


def test_the_book_is_built() -> None:
    assert "book/index.html" in PAGES, "there is no built book: run `make book`"
    assert (HTML / "index.html").exists()


@cache
def soup(page: str) -> BeautifulSoup:
    return BeautifulSoup((HTML / page).read_text("utf-8"), "html.parser")


CHAPTERS = [page for page in PAGES if (ROOT / page).with_suffix(".ipynb").exists()]


# --- What can be read in the files ---


@pytest.mark.parametrize("page", PAGES)
class TestFiles:
    def test_nothing_is_loaded_from_elsewhere(self, page: str) -> None:
        sources = [tag["src"] for tag in soup(page).select("script[src], img[src], iframe[src], source[src]")]
        sources += [tag["href"] for tag in soup(page).select("link:is([rel=stylesheet], [rel=preload], [rel*=icon])")]
        assert not [source for source in sources if re.match(r"(https?:)?//", str(source))]

    def test_every_internal_link_resolves(self, page: str) -> None:
        """Cross-references, citations, claims and their evidence among them."""
        broken = []
        for link in soup(page).select("main a[href], .bd-sidebar a[href]"):
            target, fragment = urldefrag(str(link["href"]))
            if re.match(r"[a-z]+:", target) or not (target or fragment):
                continue
            path = (HTML / page).parent / unquote(target) if target else HTML / page
            if not path.exists():
                broken.append(link["href"])
            elif fragment and path.suffix == ".html":
                there = soup(str(path.resolve().relative_to(HTML.resolve())))
                if not there.find(id=unquote(fragment)):
                    broken.append(link["href"])
        assert not broken

    def test_pictures_are_described_in_words(self, page: str) -> None:
        for image in soup(page).select("article img"):
            alt = str(image.get("alt", ""))
            assert alt and not re.search(r"\.(png|svg|jpe?g|webp)$", alt), (
                f"{image['src']} needs words: cell metadata mystnb.image.alt"
            )

    def test_links_to_a_repository_are_our_own(self, page: str) -> None:
        assert "executablebooks/jupyter-book" not in str(soup(page).select_one("body"))
        colab = [str(link["href"]) for link in soup(page).select(f'a[href^="{COLAB}"]')]
        url = find_repository(ROOT)
        if url is None or page not in CHAPTERS:
            assert not colab
        else:
            owner_and_name = url.removeprefix("https://github.com/")
            notebook = Path(page).with_suffix(".ipynb")
            assert len(colab) == 1
            assert re.fullmatch(rf"{COLAB}/github/{owner_and_name}/blob/(main|colab)/{notebook}", colab[0])


def test_the_site_carries_the_licences_of_the_libraries_in_it() -> None:
    static = HTML / "_static"
    onnxruntime = [f"parcels/onnxruntime/{name}" for name in ("LICENSE", "ThirdPartyNotices.txt.gz")]
    for licence in ("lib/mathjax/LICENSE", *onnxruntime):
        assert (static / licence).is_file(), licence


def test_the_ledger_has_a_row_for_every_claim() -> None:
    rows = soup("book/index.html").select(".claims-table tbody tr")
    assert [row["id"] for row in rows] == [f"claim-{claim.id}" for claim in claims.load()]
    for row, claim in zip(rows, claims.load(), strict=True):
        text = row.get_text(" ").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        assert claim.status in text and (claim.paper is None or claim.paper.value in text) and claim.where in text
        assert (claim.ours.value if claim.ours else "\N{EN DASH}") in text
        evidence = row.select_one("td a")
        assert evidence is not None and evidence["href"] == claim.evidence


@pytest.mark.parametrize("page", [page for page in CHAPTERS if page != "book/index.html"])
class TestChapter:
    def test_equations_and_figures_are_numbered(self, page: str) -> None:
        assert soup(page).select("article .eqno")
        assert soup(page).select("article figcaption .caption-number")

    def test_every_named_figure_is_drawn(self, page: str) -> None:
        """A cell that promises a figure but draws none leaves no trace in the page."""
        cells = json.loads((ROOT / page).with_suffix(".ipynb").read_text("utf-8"))["cells"]
        names = [cell["metadata"]["mystnb"]["figure"]["name"] for cell in cells if "mystnb" in cell["metadata"]]
        assert [name for name in names if not soup(page).select_one(f"figure#{name} img")] == []

    def test_sources_are_cited(self, page: str) -> None:
        assert soup(page).select('article a[href^="bibliography.html#"]')

    def test_claims_show_their_status(self, page: str) -> None:
        assert soup(page).select("article .claims .claim-status")


# --- What needs a browser ---


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The book over http on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=HTML)) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@contextmanager
def visit(browser: "Browser", url: str, width: int = 1280, mode: str = "light") -> Iterator["Page"]:
    """Open a page with every figure started; fail on errors, warnings, and requests to anywhere else."""
    base = "{0.scheme}://{0.netloc}/".format(urlsplit(url))
    troubles: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=mode)  # type: ignore[arg-type]
    context.set_default_timeout(20_000)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    local = (base, "blob:", "data:")
    page.route("**/*", lambda route, request: route.continue_() if request.url.startswith(local) else route.abort())
    page.on("request", lambda request: request.url.startswith(local) or troubles.append(f"request: {request.url}"))
    page.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
    page.on("response", lambda response: response.ok or troubles.append(f"{response.status}: {response.url}"))
    page.on("console", lambda message: message.type in ("error", "warning") and troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    try:
        page.goto(url)
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.wait_for_function(f"!document.querySelector('{HOSTS}:not([data-state=shown], [data-state=failed])')")
        page.evaluate("globalThis.MathJax?.startup?.promise")
        page.wait_for_timeout(200)
        yield page
        assert not troubles
    finally:
        context.close()


@pytest.mark.parametrize(("width", "mode"), SCREENS)
@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_quiet_accessible_and_fits(
    browser: "Browser", server: str, page: str, width: int, mode: str
) -> None:
    with visit(browser, f"{server}/{page}", width, mode) as opened:
        assert opened.evaluate("document.documentElement.dataset.theme") == mode
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.locator(f"{HOSTS}[data-state=failed]").all_inner_texts() == []
        assert axe_violations(opened) == []


@pytest.mark.parametrize("page", CHAPTERS)
def test_every_chapter_works_from_disk(browser: "Browser", page: str) -> None:
    with visit(browser, (HTML / page).as_uri()) as opened:
        assert opened.locator("article mjx-container").count() == len(soup(page).select("article .math"))
        hosts = opened.locator(HOSTS)
        assert hosts.count() == len(soup(page).find_all("script", type="application/vnd.jupyter.widget-view+json"))
        for host in hosts.all():
            assert host.get_attribute("data-state") == "shown", host.inner_text()
            assert host.locator("input, select, button").count(), "a figure without controls"


@pytest.mark.parametrize("protocol", ["http", "file"])
def test_the_entry_page_leads_to_the_first_page(browser: "Browser", server: str, protocol: str) -> None:
    page = browser.new_page()
    page.goto(f"{server if protocol == 'http' else HTML.as_uri()}/index.html")
    page.wait_for_url("**/book/index.html")
    page.close()


@pytest.mark.parametrize("protocol", ["http", "file"])
def test_search_finds_a_chapter(browser: "Browser", server: str, protocol: str) -> None:
    base = server if protocol == "http" else HTML.as_uri()
    with visit(browser, f"{base}/search.html?q=gated") as page:
        page.locator("#search-results li a").first.wait_for()
        assert "gated_cnn_to_mamba.html" in page.locator("#search-results").inner_html()


def test_code_can_be_copied(browser: "Browser", server: str) -> None:
    with visit(browser, f"{server}/book/mambaout.html") as page:
        cell = page.locator("div.cell_input").filter(visible=True).first
        cell.hover()
        cell.locator("button.copybtn").click()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.strip() and copied.strip() == cell.locator("pre").inner_text().strip()


def test_the_theme_can_be_switched(browser: "Browser", server: str) -> None:
    with visit(browser, f"{server}/book/index.html") as page:
        seen = set()
        for _ in range(3):
            page.locator("button.theme-switch-button").first.click()
            seen.add(page.evaluate("document.documentElement.dataset.theme"))
        assert seen == {"light", "dark"}


def test_a_number_leads_to_its_claim(browser: "Browser", server: str) -> None:
    with visit(browser, f"{server}/book/mambaout.html") as page:
        link = page.locator("article a.claim-link").first
        claim_id = str(link.get_attribute("href")).partition("#")[2]
        link.click()
        page.wait_for_url(f"**/index.html#{claim_id}")
        assert page.locator(f"#{claim_id}").is_visible()


def test_wide_equations_can_be_scrolled_with_the_keyboard(browser: "Browser", server: str) -> None:
    with visit(browser, f"{server}/book/gated_cnn_to_mamba.html", width=390) as page:
        for box in page.locator("mjx-container[display=true]").all():
            wide = box.evaluate("box => box.scrollWidth > box.clientWidth")
            assert (box.get_attribute("tabindex") == "0") == wide


# --- The figures in the book: one thing each; tests/widgets tests them one by one ---


@contextmanager
def figure(browser: "Browser", server: str, page: str, name: str) -> Iterator["Locator"]:
    with visit(browser, f"{server}/book/{page}.html") as opened:
        yield opened.get_by_role("group", name=name, exact=True).first


def test_results_explorer_counts_the_rows_of_the_chosen_mixers(browser: "Browser", server: str) -> None:
    with figure(browser, server, "index", "Results explorer") as results:
        summary = results.locator("summary")
        shown, rows = map(int, re.findall(r"\d+", summary.inner_text())[:2])
        assert shown == rows == len(table("imagenet"))
        mixers = results.get_by_role("group", name="Token mixing").get_by_role("checkbox")
        for mixer in mixers.all()[1:]:
            mixer.uncheck(force=True)
        kept = mixers.first.get_attribute("value")
        expected = int((table("imagenet")["token_mixing"] == kept).sum())
        assert 0 < expected < rows
        assert re.findall(r"\d+", summary.inner_text())[:2] == [str(expected), str(rows)]


def test_block_diagram_adds_up_its_parts(browser: "Browser", server: str) -> None:
    with figure(browser, server, "gated_cnn_to_mamba", "Block diagram") as block:

        def total() -> int:
            return int(re.sub(r"\D", "", block.locator("tfoot td").first.inner_text()))

        ssm = block.get_by_role("switch", name="SSM")
        ssm.uncheck(force=True)
        without = total()
        ssm.check(force=True)
        part = block.locator("tbody tr").filter(has_text="SSM").locator("td").first.inner_text()
        assert total() - without == int(re.sub(r"\D", "", part)) > 0


def test_architecture_explorer_totals_are_the_ledgers(browser: "Browser", server: str) -> None:
    ledger = {claim.id: claim for claim in claims.load()}
    with figure(browser, server, "mambaout", "Architecture explorer") as explorer:
        for size in ("Femto", "Base"):
            explorer.get_by_role("radio", name=size).check(force=True)
            params, macs = (text.split()[0] for text in explorer.locator("dl b").all_inner_texts()[:2])
            assert params == ledger[f"params-{size.lower()}"].paper.value
            assert macs == ledger[f"macs-{size.lower()}"].paper.value


def test_the_live_model_loads_when_it_is_seen_and_answers(browser: "Browser", server: str) -> None:
    with figure(browser, server, "live", "Live model") as live:
        status = live.get_by_role("status")
        parts = "performance.getEntriesByType('resource').filter((one) => one.name.includes('parcels')).length"
        assert live.page.evaluate(parts) == 0
        live.scroll_into_view_if_needed()
        status.get_by_text("%").wait_for()
        assert live.page.evaluate(parts) > 8
        assert re.search(r"\d+\.\d\s%", status.inner_text())


@pytest.mark.parametrize("page", [page for page in CHAPTERS if page != "book/live.html"])
def test_no_other_chapter_holds_what_runs_the_live_model(page: str) -> None:
    assert "onnxruntime/" not in (HTML / page).read_text("utf-8")
