"""How the service answers: JSON, and errors as `{"error": "..."}`."""

import msgspec
from starlette.responses import Response

_encoder = msgspec.json.Encoder()


def json_answer(value: object, status: int = 200) -> Response:
    """Answer with a value."""
    return Response(_encoder.encode(value), status, media_type="application/json")


def error_answer(status: int, message: str) -> Response:
    """Answer with an error; tell who may come again, and who lacks a token."""
    headers = {503: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}.get(status)
    return Response(
        _encoder.encode({"error": message}), status, headers=headers, media_type="application/json"
    )
