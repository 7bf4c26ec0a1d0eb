"""Examples for the OpenAPI document."""

from __future__ import annotations

REQUEST = {"file": "announcement.mp3", "model": "demo:whisper-tiny.en", "response_format": "json"}
RESPONSE = {
    "text": "The library opens at 10 on Monday. The reading group meets in the garden.",
    "usage": {"type": "duration", "seconds": 4.8},
}
STREAM = 'data: {"type":"transcript.text.delta","delta":"The library opens at 10 on Monday."}\n\n'
