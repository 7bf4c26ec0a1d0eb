"""The one way in which a picture or a sound fails."""

from __future__ import annotations


class Unusable(Exception):
    """A picture or sound cannot be used; the text says why, to go on after the name of its place in the request."""
