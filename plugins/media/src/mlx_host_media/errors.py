"""The error for media that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mlx_host.errors import InvalidRequestError

Code = Literal["invalid_image", "image_too_large", "failed_to_download_image", "invalid_audio", "audio_too_long"]

TOO_LARGE: frozenset[Code] = frozenset({"image_too_large", "audio_too_long"})


class MediaError(Exception):
    """An image or audio clip cannot be used; the text is a clause such as "the file is empty"."""

    def __init__(self, reason: str, code: Code) -> None:
        super().__init__(reason)
        self.code: Code = code

    def as_request_error(self, where: str, param: str) -> InvalidRequestError:
        """The error for the client: 413 for media that exceeds a limit, else 400; `where` locates it in the request."""
        # Decoder processes import this module, and need nothing of mlx_host.
        from mlx_host.errors import InvalidRequestError, RequestTooLargeError

        error = RequestTooLargeError if self.code in TOO_LARGE else InvalidRequestError
        return error(f"{where}: {self}.", param=param, code=self.code)
