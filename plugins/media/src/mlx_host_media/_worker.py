"""A decoder process: decodes one file at a time until the parent process closes the connection."""

from __future__ import annotations

import signal
import socket
import sys

from mlx_host_media._protocol import Data, Header, receive, send
from mlx_host_media.errors import MediaError


def main(fd: int) -> None:
    # Ctrl-C in a terminal is sent to this process as well, but the parent process decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=fd) as connection:
        try:
            while True:
                send(connection, *_handle(*receive(connection, sys.maxsize)))
        except (EOFError, OSError):
            pass


def _handle(request: Header, file: Data) -> tuple[Header, Data]:
    try:
        return _decode_image(request, file) if request["kind"] == "image" else _decode_audio(request, file)
    except MediaError as error:
        return {"code": error.code, "reason": str(error)}, b""


def _decode_image(request: Header, file: Data) -> tuple[Header, Data]:
    # Pillow and PyAV are imported with the first file that needs them.
    from mlx_host_media.image_decoder import decode_image
    from mlx_host_media.images import ImageLimits

    limits = ImageLimits(request["max_pixels"], request["scale_to"])
    image = decode_image(file, limits, alpha=request["alpha"])
    return {"mode": image.mode, "size": image.size, "original_size": image.original_size}, image.pixels


def _decode_audio(request: Header, file: Data) -> tuple[Header, Data]:
    from mlx_host_media.audio import AudioLimits
    from mlx_host_media.audio_decoder import decode_audio

    limits = AudioLimits(request["max_seconds"], request["min_seconds"])
    return {}, decode_audio(file, request["sample_rate"], limits).tobytes()


if __name__ == "__main__":
    main(int(sys.argv[1]))
