"""Keep out of a page what its figures load on demand.

A figure may name some of its data in a trait `on_demand`: trait -> file below `book/lib`, or an empty string for the
trait's own bytes. These do not stand in the page. They become classic scripts with base64 text, in parts, which
`widgets.js` loads when the figure asks. A script works from disk too, where `fetch` is refused, and the parts make
a progress bar.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

LIBRARIES = "book/lib"
FOLDER = "_static/parcels"
PART = 3 * 2**17  # bytes: 512 KiB of base64
STATE = "application/vnd.jupyter.widget-state+json"


def write_parts(content: bytes, out: Path) -> list[str]:
    """Write the scripts that carry these bytes, and return their names; equal bytes have equal names."""
    names = []
    out.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(content), PART):
        part = content[start : start + PART]
        name = f"{hashlib.sha256(part).hexdigest()[:16]}.js"
        if not (out / name).exists():
            (out / name).write_text(f'bookParcel("{name}","{base64.b64encode(part).decode()}");\n', "ascii")
        names.append(name)
    return names


def unload(page: dict[str, Any], libraries: Path, out: Path, address: str) -> bool:
    """Move what the widgets of a page load on demand into scripts.

    Args:
        page: the widget state of a page; each buffer moved gets `parts` and `bytes` in place of its data.
        libraries: the folder that files are named in.
        out: where to write the scripts.
        address: of that folder, as the page sees it.

    Returns:
        Whether anything was moved.
    """
    moved = False
    for model in page["state"].values():
        names = model["state"].get("on_demand") or {}
        for buffer in model.get("buffers", []):
            file = names.get(buffer["path"][0]) if len(buffer["path"]) == 1 else None
            if file is None:
                continue
            content = (libraries / file).read_bytes() if file else base64.b64decode(buffer.pop("data"))
            if file:
                copy_notices((libraries / file).parent, out)
            buffer.pop("data", None)
            buffer |= {"parts": [f"{address}/{name}" for name in write_parts(content, out)], "bytes": len(content)}
            moved = True
    return moved


def copy_notices(library: Path, out: Path) -> None:
    """Put the licence and the notices of a library into the site that carries its files."""
    for notice in (*library.glob("LICENSE*"), *library.glob("*Notices*")):
        (out / library.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(notice, out / library.name / notice.name)


def unload_page(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Rewrite the widget state of a page."""
    for script in context.get("script_files", []):
        attributes = getattr(script, "attributes", {})
        if attributes.get("type") != STATE or "on_demand" not in attributes.get("body", ""):
            continue
        page = json.loads(attributes["body"])
        address = context["pathto"](FOLDER, resource=True)
        if unload(page, Path(app.srcdir) / LIBRARIES, Path(app.outdir) / FOLDER, address):
            attributes["body"] = json.dumps(page).replace("</", "<\\/")
