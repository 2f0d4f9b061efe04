"""The claims ledger in the book: status boxes, the whole table, and links from numbers in prose to its rows.

The claims themselves are read by `mambaout.analysis.claims`, which also checks them. It is imported on use: that
takes seconds (PyTorch comes with it), and a book in which nothing changed needs none of it.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from mambaout.analysis.claims import Claim, Value

logger = logging.getLogger(__name__)

COLUMNS = {"Claim": 40, "Where": 18, "Claimed": 14, "Ours": 14, "Status": 14}

EVIDENCE = "claim-evidence"


def load() -> dict[str, Claim]:
    """Return the claims by their names, in the ledger's order."""
    from mambaout.analysis import claims

    return {claim.id: claim for claim in claims.load()}


def anchor(claim_id: str) -> str:
    """Return the anchor of a claim's row in the table."""
    return f"claim-{claim_id}"


def badge(claim: Claim) -> nodes.inline:
    """Return the claim's status as a label; the words, not the colour, carry the meaning."""
    return nodes.inline("", claim.status, classes=["claim-status", f"claim-{claim.status.replace(' ', '-')}"])


def number(value: Value | None) -> str:
    """Return a value with its unit as text; a dash where there is none."""
    return "\N{EN DASH}" if value is None else f"{value.value} {value.unit}".strip()


class ClaimsBox(SphinxDirective):
    """`{claims} id1 id2 ...`: a small box with the status of these claims."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the box."""
        claims = load()
        items = nodes.bullet_list(classes=["claims-list"])
        for claim_id in self.arguments[0].split():
            if claim_id not in claims:
                raise self.error(f"The ledger has no claim {claim_id!r}; it has: {', '.join(claims)}.")
            claim = claims[claim_id]
            text = self.parse_text_to_nodes(f"{claim.claim} ({claim.where})")
            paragraph = nodes.paragraph("", "", badge(claim), nodes.Text(" "), *text[0].children)
            found = "" if claim.paper is None else f" Claimed: {number(claim.paper)}."
            if claim.ours is not None:
                found += f" Ours: {number(claim.ours)}."
            paragraph += [nodes.Text(found + " "), nodes.reference("", "Ledger", refuri=f"claim:{claim.id}")]
            items += nodes.list_item("", paragraph)
        title = nodes.paragraph("", "What the paper claims here, and what we found", classes=["claims-title"])
        return [nodes.container("", title, items, classes=["claims"])]


class ClaimsTable(SphinxDirective):
    """`{claims-table}`: the whole ledger, a row with an anchor for each claim."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = [self.row(claim) for claim in load().values()]
        head = nodes.row("", *(nodes.entry("", nodes.paragraph("", name)) for name in COLUMNS))
        group = nodes.tgroup(
            "",
            *(nodes.colspec(colwidth=width) for width in COLUMNS.values()),
            nodes.thead("", head),
            nodes.tbody("", *rows),
            cols=len(COLUMNS),
        )
        return [nodes.table("", group, classes=["claims-table"])]

    def row(self, claim: Claim) -> nodes.row:
        """Return the row of one claim."""
        link = nodes.reference("", "", refuri=claim.evidence, classes=[EVIDENCE], internal=True)
        evidence = nodes.paragraph("", "See: ", link)
        cells = [
            [*self.parse_text_to_nodes(claim.claim), evidence],
            [nodes.paragraph("", claim.where)],
            [nodes.paragraph("", number(claim.paper))],
            [nodes.paragraph("", number(claim.ours))],
            [nodes.paragraph("", "", badge(claim))],
        ]
        return nodes.row("", *(nodes.entry("", *cell) for cell in cells), ids=[anchor(claim.id)])


class LinkClaims(SphinxPostTransform):
    """Lead `claim:ID` and `claim:ID:ours` to the claim's row on the first page, and name the sections of evidence."""

    default_priority = 100

    def run(self, **kwargs: Any) -> None:
        """Rewrite the links of one page."""
        root = self.app.config.root_doc
        page = "" if self.env.docname == root else self.app.builder.get_relative_uri(self.env.docname, root)
        for node in self.document.findall(nodes.reference):
            if EVIDENCE in node["classes"]:
                node += nodes.Text(self.section_title(node))
            scheme, _, rest = node.get("refuri", "").partition(":")
            if scheme == "claim":
                claim_id = rest.removesuffix(":ours")
                if claim_id not in load():
                    logger.warning("the ledger has no claim %r", claim_id, location=node)
                node["refuri"] = f"{page}#{anchor(claim_id)}"
                node["internal"] = True

    def section_title(self, node: nodes.reference) -> str:
        """Return the title of the section that a link to evidence leads to."""
        page, _, slug = node["refuri"].partition("#")
        document = str(PurePosixPath(self.app.config.root_doc).with_name(page.removesuffix(".html")))
        sections = self.env.metadata[document].get("myst_slugs", {})
        if slug not in sections:
            logger.warning("the ledger leads to %s, but there is no such section", node["refuri"], location=node)
            return slug
        return sections[slug][2]


def setup(app: Sphinx) -> None:
    """Add the directives and the links."""
    app.add_directive("claims", ClaimsBox)
    app.add_directive("claims-table", ClaimsTable)
    app.add_post_transform(LinkClaims)
