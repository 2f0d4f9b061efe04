"""What stands in the prose of the book's pages, read with the parser that the book itself uses."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

EXTENSIONS = {"amsmath", "attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"}
PARSER = create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)

# Directives whose content is no prose.
OPAQUE = {"math", "claims", "claims-table", "bibliography", "eval-rst", "code-block", "figure", "image"}
DIRECTIVE = re.compile(r"\{([\w:-]+)\}(.*)")
OPTION = re.compile(r"^:[\w-]+:.*\n?", re.MULTILINE)

DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+")
# Versions of software and licences, and places in a paper, are no measurements.
REFERENCE = re.compile(
    r"\b(?:Sections?|Python|PyTorch|torch|torchvision|timm|[Vv]ersions?|CC BY(?:-SA)?|Licen[cs]e)"
    r"\s+\d+(?:\.\d+)+(?:(?:,|,? and| to)\s+\d+(?:\.\d+)+)*"
)


@dataclass
class Prose:
    """The running text outside code, mathematics and links, the links to claims, and the claims in boxes."""

    text: list[str] = field(default_factory=list)
    claim_links: list[tuple[str, str]] = field(default_factory=list)  # (text, "ID" or "ID:ours")
    boxed_claims: list[str] = field(default_factory=list)
    directives: list[str] = field(default_factory=list)

    def decimals(self) -> list[str]:
        """Return the decimal numbers without a source, each with the words around it."""
        found = []
        for text in self.text:
            plain = REFERENCE.sub("", text)
            found += [plain[max(0, m.start() - 30) : m.end() + 20] for m in DECIMAL.finditer(plain)]
        return found


def read(markdown: str) -> Prose:
    """Return what stands in the prose of a page or a cell."""
    prose = Prose()
    _read_blocks(markdown, prose)
    return prose


def _read_blocks(markdown: str, prose: Prose) -> None:
    for token in PARSER.parse(markdown):
        if token.type == "inline":
            _read_inline(iter(token.children or []), prose)
        elif token.type in ("fence", "colon_fence") and (directive := DIRECTIVE.match(token.info.strip())):
            name, argument = directive.groups()
            prose.directives.append(name)
            if name == "claims":
                prose.boxed_claims += argument.split()
            elif name not in OPAQUE:
                _read_blocks(f"{argument}\n\n{OPTION.sub('', token.content)}", prose)


def _read_inline(tokens: Iterator[Token], prose: Prose) -> None:
    words = ""
    for token in tokens:
        if token.type == "link_open":
            label = "".join(inner.content for inner in _until_link_close(tokens))
            target = str(token.attrGet("href") or "")
            if target.startswith("claim:"):
                prose.claim_links.append((label, target.removeprefix("claim:")))
            words += " "
        elif token.type == "text":
            words += token.content
        elif token.type == "softbreak":
            words += " "
    prose.text.append(words)


def _until_link_close(tokens: Iterator[Token]) -> Iterator[Token]:
    for token in tokens:
        if token.type == "link_close":
            return
        yield token
