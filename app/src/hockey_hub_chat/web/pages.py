"""The page: one HTML file and its static parts. The browser asks for them anew each time and mostly gets 304."""

from __future__ import annotations

import hashlib
from pathlib import Path

from apiflask import APIFlask
from flask import Response, request

_PAGE = Path(__file__).parent / "templates" / "index.html"


def register(app: APIFlask) -> None:
    """Serve the page at ``/``."""
    body = _PAGE.read_bytes()
    etag = hashlib.sha256(body).hexdigest()[:32]

    @app.get("/")
    @app.doc(hide=True)
    def index() -> Response:
        response = Response(body, mimetype="text/html")
        response.set_etag(etag)
        response.headers["Cache-Control"] = "no-cache"
        response.make_conditional(request)
        return response
