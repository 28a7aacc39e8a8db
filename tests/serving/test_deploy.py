"""What docs/serving.md says of deployment: its files and commands, run where the programs are."""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer

from openchat_cli.cli.main import app
from openchat_cli.engine.settings import EngineSettings
from openchat_cli.serving.server import Ready, background
from openchat_cli.serving.settings import ServeSettings
from tests.serving.test_upstream import NEVER_ENDS, TALK, answering, until

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "docs" / "deploy"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Ready]:
    engine = EngineSettings(model_path=folder, max_slots=4, threads=1)
    with background(ServeSettings(engine, port=0, shutdown_seconds=1)) as ready:
        yield ready


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def running(*command: object, port: int) -> Iterator[None]:
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end, "it does not listen"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)


def check_proxy(port: int, server: Ready) -> None:
    """TLS, streams token by token, hang-ups that reach the server, bodies up to its own limit."""
    trust = ssl.create_default_context()
    trust.check_hostname = False
    trust.verify_mode = ssl.CERT_NONE
    url = f"https://localhost:{port}/v1/chat/completions"
    body: dict[str, Any] = {"model": "openchat", "messages": TALK}
    with httpx2.Client(verify=trust, timeout=30, trust_env=False) as http:
        assert http.post(url, json=body).status_code == 200
        long = {**body, "stream": True, "max_tokens": 1900, **NEVER_ENDS}
        with http.stream("POST", url, json=long) as got:
            lines = got.iter_lines()
            for _ in range(6):
                next(lines)
            assert answering(server) == 1  # some came while the rest is not there yet
        until(lambda: answering(server) == 0, 3)
        filler = {**body, "user": "x" * (8 * 2**20)}
        refused = http.post(url, json=filler)
        assert refused.status_code == 413
        assert refused.json()["error"]["code"] == "request_too_large"

    async def hang_up() -> None:
        async with httpx2.AsyncClient(verify=trust, timeout=30, trust_env=False) as http:
            silent = {**long, "stream": False}
            asked = asyncio.create_task(http.post(url, json=silent))
            for _ in range(300):
                if await asyncio.to_thread(answering, server) == 1:
                    break
                await asyncio.sleep(0.01)
            asked.cancel()

    asyncio.run(hang_up())
    until(lambda: answering(server) == 0, 3)


def certificate(folder: Path) -> tuple[Path, Path]:
    chain, key = folder / "chain.pem", folder / "key.pem"
    subprocess.run(
        [
            *(program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(chain)),
        ],
        check=True,
        capture_output=True,
    )
    return chain, key


def replaced(text: str, **parts: tuple[str, str]) -> str:
    for old, new in parts.values():
        assert old in text, old
        text = text.replace(old, new)
    return text


def test_nginx(server: Ready, tmp_path: Path) -> None:
    nginx = program("nginx")
    chain, key = certificate(tmp_path)
    port = free_port()
    site = replaced(
        (DEPLOY / "nginx.conf").read_text(),
        listen=("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        server=("127.0.0.1:18888", server.url.split("/")[2]),
        chain=("/etc/ssl/openchat/fullchain.pem", str(chain)),
        key=("/etc/ssl/openchat/privkey.pem", str(key)),
    )
    (tmp_path / "site.conf").write_text(site)
    temporary = "".join(
        f"{name}_temp_path {tmp_path};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root root;" if os.getuid() == 0 else ""  # else its workers can't write there
    (tmp_path / "nginx.conf").write_text(
        f"{user} pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary} include {tmp_path}/site.conf; }}\n"
    )
    command = (nginx, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-g", "daemon off;")
    with running(*command, port=port):
        check_proxy(port, server)


def test_caddy(server: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caddy = program("caddy")
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    port = free_port()
    text = replaced(
        (DEPLOY / "Caddyfile").read_text(),
        name=("chat.example.org {", f"localhost:{port} {{\n\ttls internal"),
        server=("127.0.0.1:18888", server.url.split("/")[2]),
    )
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n"
    (tmp_path / "Caddyfile").write_text(options + text)
    command = (caddy, "run", "--config", tmp_path / "Caddyfile", "--adapter", "caddyfile")
    with running(*command, port=port):
        check_proxy(port, server)


def unit() -> str:
    return (DEPLOY / "openchat.service").read_text()


def test_the_unit_is_one_for_systemd(tmp_path: Path) -> None:
    check = program("systemd-analyze")
    text = replaced(unit(), program=("/opt/openchat/bin/openchat", sys.executable))
    (tmp_path / "openchat.service").write_text(text)
    ended = subprocess.run(
        [check, "verify", str(tmp_path / "openchat.service")], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_unit_waits_for_the_drain() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keeps the names' case
    parser.read_string(unit())
    service = parser["Service"]
    assert int(service["TimeoutStopSec"]) > ServeSettings.shutdown_seconds + 5
    assert (service["SuccessExitStatus"], service["RestartPreventExitStatus"]) == ("143", "2")
    parses(shlex.split(service["ExecStart"])[1:])


def test_the_container_file() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    lines = [line for line in re.sub(r"\\\n", " ", text).splitlines() if line]
    made = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line[0] != "#"}
    assert made.keys() == {
        *("FROM", "ARG", "COPY", "RUN", "USER", "ENV", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"),
        *("ENTRYPOINT", "CMD"),
    }
    entry = json.loads(made["ENTRYPOINT"])
    assert entry[0] == "openchat"
    parses([*entry[1:], *json.loads(made["CMD"])])
    assert made["USER"] != "0"
    assert "--stop-timeout 75" in text
    check = json.loads(made["HEALTHCHECK"].partition("CMD ")[2])
    compile(check[2], "health check", "exec")


def parses(arguments: list[str]) -> None:
    """Whether these are options that `openchat` has; raises where not."""
    command: Any = typer.main.get_command(app)
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context("openchat", list(arguments))


def test_every_command_of_the_page_is_one() -> None:
    text = (ROOT / "docs" / "serving.md").read_text("utf-8")
    shown = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S))
    found = 0
    for line in shown.replace("\\\n", " ").splitlines():
        for part in re.split(r" \| | && ", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words[:1] == ["openchat"]:
                parses(words[1:])
                found += 1
    assert found >= 10
    with pytest.raises(Exception, match="No such option"):
        parses(["serve", "--no-such-option"])
