"""What the server can be told (light: no torch, no starlette here)."""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from openchat_cli.core.errors import UsageError
from openchat_cli.engine.settings import EngineSettings, SamplingParams
from openchat_cli.serving.upstream_settings import UpstreamSettings


@dataclass(frozen=True)
class ServeSettings:
    """Where to listen, who may ask, and what a request that is silent gets."""

    engine: EngineSettings
    host: str = "127.0.0.1"
    port: int = 18888  # 0: any free one
    name: str | None = None  # what clients call the model; the model type's name when absent
    temperature: float = SamplingParams.temperature
    top_p: float = SamplingParams.top_p
    max_tokens: int = SamplingParams.max_tokens
    max_choices: int = 16  # the most answers (`n`) to one request
    max_body_bytes: int = 8 * 2**20
    max_connections: int = 2048  # open at once; one more gets 503
    request_timeout: float | None = None  # seconds until an answer is given up; None: never
    header_seconds: float = 20.0  # for a request's headers to arrive
    body_seconds: float = 60.0  # for its body
    stall_seconds: float = 60.0  # a client that takes nothing for so long is hung up on
    shutdown_seconds: float = 60.0  # how long answers under way may take to finish after SIGTERM
    cors_origins: tuple[str, ...] = ()  # whose web pages may ask; "*": all
    log_file: Path | None = None  # a JSON line for each request; "-": stdout
    log_content: bool = False  # write prompts and answers to the log
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    allow_unauthenticated: bool = False
    upstream: UpstreamSettings | None = None  # who answers in the place of the engine

    def __post_init__(self) -> None:
        self.sampling()  # refuses defaults out of range
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port must be between 0 and 65535, not {self.port}")
        for name in ("request_timeout", "header_seconds", "body_seconds", "stall_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} must be above 0, not {value:g}")
        if not 0 <= self.shutdown_seconds < math.inf:
            raise UsageError(f"shutdown_seconds must be at least 0, not {self.shutdown_seconds:g}")
        for name in ("max_connections", "max_body_bytes", "max_choices"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        for origin in self.cors_origins:
            _check_origin(origin)
        if not (self.api_keys or self.allow_unauthenticated or is_loopback(self.host)):
            raise UsageError(
                f"{self.host} can be reached from other machines, and there are no API keys",
                "set OPENCHAT_API_KEYS or --api-key-file, or add --allow-unauthenticated",
            )

    @property
    def queue_size(self) -> int:
        """How many answers may wait for their turn."""
        return (self.upstream or self.engine).queue_size

    def sampling(self) -> SamplingParams:
        """How a request that says nothing is answered."""
        return SamplingParams(
            temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens
        )


def _check_origin(origin: str) -> None:
    # Compared with what browsers send, letter by letter.
    if origin != "*" and not re.fullmatch(r"(?!.*[A-Z])[a-z][a-z0-9+.-]*://[^/?#\s]+|null", origin):
        raise UsageError(
            f"'{origin}' is not an origin as browsers write it",
            "https://chat.example.org: small letters, no path, no slash at the end; or *",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost counts as public."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
