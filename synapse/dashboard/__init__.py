"""The dashboard: pages for a browser on this machine, which ask the admin address for everything that they show."""

from pathlib import Path
from typing import Final

from smartstack.responses import Response, text_response

POLICY: Final = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
"""What a browser lets the pages do: load what is here, and nothing from elsewhere. No script stands in a page."""

_HERE: Final = Path(__file__).parent
_SCRIPT: Final = "text/javascript; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"
_STYLE: Final = "text/css; charset=utf-8"

FILES: Final = {
    "index.html": "text/html; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "style.css": _STYLE,
    **{
        f"{name}.js": _SCRIPT
        for name in (
            "api",
            "app",
            "charts",
            "events",
            "figures",
            "format",
            "health",
            "instances",
            "overview",
            "parts",
            "service",
            "tap",
            "topology",
        )
    },
    "vendor/preact.mjs": _SCRIPT,
    "vendor/htm.module.js": _SCRIPT,
    "vendor/dagre.esm.js": _SCRIPT,
    "vendor/uPlot.iife.min.js": _SCRIPT,
    "vendor/uPlot.min.css": _STYLE,
    "vendor/README.md": _TEXT,
    **{f"vendor/LICENSE.{name}": _TEXT for name in ("preact", "htm", "dagre", "uplot")},
}
"""All that is served, and as what: a name that is not here is not looked for."""


def page() -> Response:
    """`/`: the page, whose script shows the others."""
    return file("index.html")


def file(name: str) -> Response:
    """`/dashboard/<name>`. It is read each time, because it is asked for seldom and a daemon's memory is counted."""
    kind = FILES.get(name)
    if kind is None:
        return text_response(404, "the dashboard has no such file")
    return Response(200, (_HERE / name).read_bytes(), kind, (("Content-Security-Policy", POLICY),))
