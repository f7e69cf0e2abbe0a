"""The one place that loads templates, from the wheel or from a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

__all__ = ["environment", "template_source"]


def _folder() -> Path:
    """Return where the templates are: beside this file in a wheel, one up in a checkout."""
    package = Path(__file__).parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


def template_source(name: str) -> str:
    """Return the text of a template."""
    return (_folder() / name).read_text(encoding="utf-8")


@cache
def environment(*, autoescape: bool) -> jinja2.Environment:
    """Return the environment of all templates; a name that is not given is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_folder()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=autoescape,
    )
