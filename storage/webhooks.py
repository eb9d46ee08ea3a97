"""Signed posts: what tells a web address of something, so that it can know who sends."""

import hmac
from datetime import datetime

import httpx

from bespoke.clock import to_ms
from bespoke.errors import Unavailable

SIGNATURE = "Bespoke-Signature"
MESSAGE_ID = "Bespoke-Message-Id"


def signature(secret: bytes, body: bytes, *, at: datetime) -> str:
    """Return the signature header: the time in seconds and the HMAC-SHA256 of time, dot and body.

    >>> from bespoke.clock import from_ms
    >>> signature(b"key", b"{}", at=from_ms(1_000))[:9]
    't=1,v1=1b'
    """
    seconds = to_ms(at) // 1_000
    return f"t={seconds},v1={hmac.new(secret, f'{seconds}.'.encode() + body, 'sha256').hexdigest()}"


def post_signed(
    client: httpx.Client, url: str, body: bytes, *, secret: bytes, message_id: str, at: datetime, timeout_s: float
) -> None:
    """Post JSON; anything but a 2xx counts as not taken.

    Raises:
        Unavailable: it was answered with another status.
        httpx.HTTPError: it was not answered.
    """
    headers = {
        "content-type": "application/json",
        MESSAGE_ID: message_id,
        SIGNATURE: signature(secret, body, at=at),
    }
    answer = client.post(url, content=body, headers=headers, timeout=timeout_s)
    if not answer.is_success:
        raise Unavailable(f"answered {answer.status_code}")
