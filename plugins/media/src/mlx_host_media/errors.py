"""The error for invalid images and audio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mlx_host.errors import InvalidRequestError

Code = Literal["invalid_image", "image_too_large", "failed_to_download_image", "invalid_audio", "audio_too_long"]

TOO_LARGE: frozenset[Code] = frozenset({"image_too_large", "audio_too_long"})


class MediaError(Exception):
    """An image or audio clip is invalid or exceeds a limit; the message is a clause such as "the file is empty"."""

    def __init__(self, reason: str, code: Code) -> None:
        super().__init__(reason)
        self.code: Code = code

    def as_request_error(self, where: str, param: str) -> InvalidRequestError:
        """Return the error for the client: 413 for media above a limit, otherwise 400.

        `where` is the position of the media in the request, for the message.
        """
        # Imported here because decoder processes import this module but not mlx_host.
        from mlx_host.errors import InvalidRequestError, RequestTooLargeError

        error = RequestTooLargeError if self.code in TOO_LARGE else InvalidRequestError
        return error(f"{where}: {self}.", param=param, code=self.code)
