"""What the endpoints share: the settings, the model and its names."""

from __future__ import annotations

import functools
import time

from openchat_cli.serving.bridge import Bridge
from openchat_cli.serving.errors import ApiError
from openchat_cli.serving.settings import ServeSettings
from openchat_cli.serving.tables import Served


class Service:
    """What the routes share: the settings and, once it is loaded, the engine."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.defaults = settings.sampling()
        self.created = int(time.time())
        self._bridge: Bridge | None = None

    def start(self, bridge: Bridge) -> None:
        """The model is loaded: answer from now on."""
        self._bridge = bridge

    @property
    def bridge(self) -> Bridge:
        """The running engine's; ApiError 503 while the model loads."""
        if self._bridge is None:
            headers = {"Retry-After": "5"}
            raise ApiError(503, "The model is loading.", code="loading", headers=headers)
        return self._bridge

    @property
    def model(self) -> str:
        """What clients call the model."""
        return self.settings.name or self.bridge.engine.kind.name

    @functools.cached_property
    def served(self) -> Served:
        """What decides which requests are right; ApiError 503 while the model loads."""
        engine = self.bridge.engine
        return Served(
            models=tuple(sorted(self.names)),
            roles=tuple(engine.kind.roles),
            vocab_size=engine.tokenizer.vocab_size,
            max_choices=self.settings.max_choices,
        )

    @property
    def names(self) -> set[str]:
        """Every name of the model."""
        known = {self.model, self.settings.engine.model_path.name}
        return known if self.settings.name else known | set(self.bridge.engine.kind.aliases)

    def check_model(self, name: str) -> None:
        """ApiError 404 for a model that is not served; capitals don't matter."""
        if name.casefold() not in {known.casefold() for known in self.names}:
            message = f"The model '{name}' does not exist; this server has '{self.model}'."
            raise ApiError(404, message, param="model", code="model_not_found")
