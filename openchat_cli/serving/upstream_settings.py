"""Which server stands behind this one, and how patiently it is asked (light: no HTTP here)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from openchat_cli.core.errors import UsageError


@dataclass(frozen=True)
class Behind:
    """The server that was found there."""

    url: str  # with /v1
    model: str  # as it calls it
    renders: bool  # whether conversations are rendered there, not here


@dataclass(frozen=True)
class UpstreamSettings:
    """A server that speaks OpenAI's protocol.

    With `model_path`, a folder that has a tokeniser (no weights are needed), conversations are
    rendered here and asked for as token ids; without it the upstream renders them its own way.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    model: str | None = None  # what the upstream calls it; the first it lists when absent
    model_path: Path | None = None
    model_type: str | None = None
    model_file: Path | None = None
    context: int | None = None  # tokens; what the folder and the upstream say when absent
    max_concurrency: int = 256  # requests under way at the upstream
    queue_size: int = 256  # requests that may wait here for one of those
    timeout: float = 600.0  # seconds without a byte from the upstream
    connect_timeout: float = 10.0
    check_seconds: float = 5.0  # between looks at the upstream's health

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            port_is_fine = parts.port is None or parts.port > 0
        except ValueError:
            port_is_fine = False
        if not port_is_fine or parts.scheme not in ("http", "https") or not parts.hostname:
            hint = "such as http://127.0.0.1:8000/v1"
            raise UsageError("the upstream's URL is not one of a server", hint)
        if parts.username or parts.password or parts.query or parts.fragment:
            # Without the URL: what is in it may be a secret.
            hint = "its key goes into OPENCHAT_UPSTREAM_KEY or --upstream-key-file"
            raise UsageError("the upstream's URL must not hold a user, a password or a query", hint)
        for name in ("max_concurrency", "queue_size", "context"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        for name in ("timeout", "connect_timeout", "check_seconds"):
            if not 0 < getattr(self, name) < 10**6:
                raise UsageError(f"the upstream's {name} must be a number of seconds above 0")

    @property
    def base(self) -> str:
        """The URL that the protocol's paths come after: with /v1 where it has no path."""
        return self.url.rstrip("/") + ("" if urlsplit(self.url).path.strip("/") else "/v1")

    @property
    def host(self) -> str:
        """The host's name or address."""
        return urlsplit(self.url).hostname or ""
