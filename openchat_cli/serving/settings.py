"""What the server can be told (light: no torch, no starlette here)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

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
    shutdown_seconds: int = 10  # how long answers under way may take to finish after SIGTERM
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    allow_unauthenticated: bool = False
    upstream: UpstreamSettings | None = None  # who answers in the place of the engine

    def __post_init__(self) -> None:
        self.sampling()  # refuses defaults out of range
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port must be between 0 and 65535, not {self.port}")
        if not (self.api_keys or self.allow_unauthenticated or is_loopback(self.host)):
            raise UsageError(
                f"{self.host} can be reached from other machines, and there are no API keys",
                "set OPENCHAT_API_KEYS or --api-key-file, or add --allow-unauthenticated",
            )

    def sampling(self) -> SamplingParams:
        """How a request that says nothing is answered."""
        return SamplingParams(
            temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost counts as public."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
