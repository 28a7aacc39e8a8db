"""A short soak; `make soak` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving.soak import soak


@pytest.mark.slow
def test_twenty_seconds_of_everything(folder: Path) -> None:
    report = soak(folder, 20)
    assert not report.wrong, "\n".join(report.lines())
    asked = {name.split()[0] for name in report.answers}
    assert asked == {"whole", "stream", "hang_up", "refused", "slow_reader"}
