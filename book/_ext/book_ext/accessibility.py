"""Mend in the finished page what is unclear to assistive technology (axe-core finds these)."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

REWRITES = [
    # pandas heads its index with an empty cell, which announces a column without a name.
    (re.compile(r"<th></th>"), "<td></td>"),
    # docutils puts a deprecated role on the entries of a bibliography, inside a list that wants list items.
    (re.compile(r'role="doc-biblioentry"'), 'role="listitem"'),
    # myst-nb names the fold of a hidden cell differently from its visible text.
    (re.compile(r'<summary aria-label="[^"]*">'), "<summary>"),
]


def rewrite_page(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Rewrite the page's body."""
    for pattern, replacement in REWRITES:
        context["body"] = pattern.sub(replacement, context.get("body", ""))
