"""HTML pages from the Jinja templates of this package, which share one layout."""

import datetime
import functools
from typing import Any

import jinja2


def render(name: str, **fields: Any) -> str:
    """Returns the HTML of a template.

    Args:
        name: File of the template below `jaxlung/`, as "report/page.html.jinja".
        **fields: Variables of the template; their text is escaped.
    """
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d at %H:%M UTC")
    return _environment().get_template(name).render(made=made, **fields)


@functools.cache
def _environment() -> jinja2.Environment:
    # Names of images, folders and groups come from a user's files: all text is escaped.
    return jinja2.Environment(
        loader=jinja2.PackageLoader("jaxlung", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
