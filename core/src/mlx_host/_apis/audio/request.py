"""Translates the form of the audio endpoints into requests."""

from __future__ import annotations

import uuid

from pydantic import ValidationError

from mlx_host._apis.audio.schema import AudioForm
from mlx_host.api.http import MultipartForm, validation_error
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import TranscriptionRequest

# Fields that may be repeated in the form.
LIST_FIELDS = ("timestamp_granularities", "include", "known_speaker_names", "known_speaker_references")
# Fields that would change the response and that no model supports.
UNSUPPORTED_FIELDS = ("include", "known_speaker_names", "known_speaker_references", "languages", "keywords")


def transcription_request(
    form: MultipartForm, request_type: type[TranscriptionRequest]
) -> tuple[AudioForm, TranscriptionRequest]:
    """Translate a form; InvalidRequestError names a field that is invalid or not supported."""
    fields = _fields(form)
    request = request_type(
        id=f"audio-{uuid.uuid4().hex}",
        model=fields.model,
        audio=_file(form),
        language=fields.language,
        prompt=fields.prompt,
        temperature=fields.temperature,
        word_timestamps=fields.words,
    )
    return fields, request


def _fields(form: MultipartForm) -> AudioForm:
    given = {name: [text for text in texts if text] for name, texts in form.fields.items()}
    values = {name: texts if name in LIST_FIELDS else texts[-1] for name, texts in given.items() if texts}
    for name in UNSUPPORTED_FIELDS:
        if name in values:
            raise InvalidRequestError(f"{name} is not supported by this server.", param=name)
    if any(name.startswith("chunking_strategy[") for name in values):
        raise InvalidRequestError(
            "chunking_strategy must be 'auto'; this server supports no other strategy.",
            param="chunking_strategy",
        )
    try:
        fields = AudioForm.model_validate(values)
    except ValidationError as error:
        raise validation_error(error.errors()) from None
    fields.check()
    return fields


def _file(form: MultipartForm) -> bytes:
    if "file" in form.fields:
        raise InvalidRequestError("file must be sent as a file (curl: -F file=@FILE), not as text.", param="file")
    files = form.files.get("file", [])
    if len(files) != 1:
        raise InvalidRequestError(f"The form must have exactly one file named file, got {len(files)}.", param="file")
    return files[0].content
