"""What the endpoints share: the settings, the model and its names."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

from openchat_cli.core.progress import SILENT
from openchat_cli.model import hub
from openchat_cli.serving.bridge import Bridge
from openchat_cli.serving.errors import ApiError
from openchat_cli.serving.loading import Loading
from openchat_cli.serving.settings import ServeSettings
from openchat_cli.serving.tables import Served
from openchat_cli.serving.watch import Watch


class Service:
    """What the routes share: the settings and, once it is loaded, the engine."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.defaults = settings.sampling()
        self.created = int(time.time())
        self.watch = Watch()
        self.loading = Loading(SILENT)
        self._bridge: Bridge | None = None

    def start(self, bridge: Bridge) -> None:
        """The model is loaded: answer from now on."""
        self._bridge = bridge
        self.watch.engine = bridge.engine

    def health(self) -> tuple[int, dict[str, Any]]:
        """The status and body of /health."""
        engine = self.watch.engine
        if engine is not None and engine.failure is not None:
            return 503, {"status": "failed", "reason": engine.failure}
        if self.watch.draining:
            return 503, {"status": "stopping", "open": len(self.watch.open)}
        if engine is None:
            return 503, {"status": "loading", **self.loading.state()}
        if engine.trouble is not None:
            return 503, {"status": "upstream_down", "reason": engine.trouble}
        load = dataclasses.asdict(engine.load_now())
        return 200, {"status": "ok", "slots": engine.slots, **load}

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
        path = self.settings.engine.model_path
        known = {self.model, path.name or self.model}  # an upstream needs no path
        if hub.is_name(path):
            known |= {hub.short_name(path), hub.long_name(path)}
        return known if self.settings.name else known | set(self.bridge.engine.kind.aliases)

    def check_model(self, name: str) -> None:
        """ApiError 404 for a model that is not served; capitals don't matter."""
        if name.casefold() not in {known.casefold() for known in self.names}:
            message = f"The model '{name}' does not exist; this server has '{self.model}'."
            raise ApiError(404, message, param="model", code="model_not_found")
