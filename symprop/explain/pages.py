"""Pages to hand out: sections under a title, as text, LaTeX, HTML or data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

import symprop
from symprop.explain.rows import Section, html_fragment, latex_document, text_page
from symprop.explain.writing import ASCII, UNICODE
from symprop.templating import environment

__all__ = ["TEMPLATE", "Block", "Page", "html_page"]

TEMPLATE = "page.html.jinja"
"""The template of every HTML page; its styles stand in it, nothing else is loaded."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of an HTML page: a heading and what stands under it, as HTML."""

    anchor: str
    heading: str
    html: str


@dataclass(frozen=True, slots=True)
class Page:
    """Sections of rows under a title; `data` is what JSON holds."""

    title: str
    sections: tuple[Section, ...]
    data: Mapping[str, Any] = field(default_factory=dict)

    def text(self, *, unicode: bool = False) -> str:
        """Return aligned text, in ASCII unless `unicode`."""
        return text_page(self.sections, UNICODE if unicode else ASCII)

    def latex(self) -> str:
        """Return a LaTeX document that compiles as it stands."""
        return latex_document(self.title, self.sections)

    def html(self) -> str:
        """Return an HTML document that needs no network."""
        return html_page(self.title, "", [Block("", "", html_fragment(self.sections, 2))])

    def as_dict(self) -> dict[str, Any]:
        """Return the page as data for JSON."""
        return dict(self.data)


def html_page(title: str, subtitle: str, blocks: Iterable[Block]) -> str:
    """Return a self-contained HTML page; the blocks' HTML is trusted, all else is escaped."""
    shown = [(block.anchor, block.heading, Markup(block.html)) for block in blocks]
    template = environment(autoescape=True).get_template(TEMPLATE)
    return template.render(
        title=title, subtitle=subtitle, blocks=shown, version=symprop.__version__
    )
