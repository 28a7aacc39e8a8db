"""Where an OpenAI-compatible endpoint is and how patiently it is asked (light: no asyncio here)."""

from __future__ import annotations

from dataclasses import dataclass, field

from openchat_cli.core.errors import UsageError

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True)
class Endpoint:
    """Where calls go and how patiently."""

    url: str = OPENAI_URL
    key: str | None = field(default=None, repr=False)
    timeout: float = 120.0  # seconds for one try
    concurrency: int = 16  # calls under way at once
    attempts: int = 8  # tries of one call; waits that the server asks for do not count
    patience: float = 900.0  # seconds one call may spend in such waits

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(f"'{self.url}' is no URL", "such as http://127.0.0.1:18888/v1")
        if self.timeout <= 0 or self.concurrency < 1 or self.attempts < 1:
            raise UsageError("timeout, concurrency and attempts must be positive")

    def require_key(self, instead: str) -> None:
        """Raise UsageError where OpenAI's own endpoint would be called without a key."""
        if self.url == OPENAI_URL and not self.key:
            raise UsageError(
                "OpenAI's endpoint needs a key and there is none",
                f"set OPENAI_API_KEY, or use --api-key-file; another endpoint by URL; {instead}",
            )
