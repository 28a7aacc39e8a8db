"""A hub of models on this machine: as much of its HTTP as the real client needs to fetch one."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """What it has, and what was asked of it."""

    models: dict[str, Path]  # "owner/name" -> its folder
    revisions: tuple[str, ...] = ("main", "v2")
    gated: bool = False
    broken: bool = False
    cut: str | None = None  # a file whose connection breaks half-way, once
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def environment(self, cache: Path) -> dict[str, str]:
        """What makes the client come here."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve it on a free port while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def commit(model: str, revision: str) -> str:
    """The commit that a revision of a model stands for."""
    return hashlib.sha1(f"{model}@{revision}".encode()).hexdigest()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def log_message(self, *args: object) -> None:
            return None

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            hub.asked.append(f"{self.command} {path}")
            if hub.broken:
                self._send(500, b"down")
                return
            parts = path.split("/")
            if parts[:2] == ["api", "models"]:
                self._about("/".join(parts[2:4]), parts[4:])
            elif len(parts) >= 5 and parts[2] == "resolve":
                self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            else:
                self._send(404, b"")

        def _about(self, model: str, rest: list[str]) -> None:
            folder = hub.models.get(model)
            if folder is None:
                self._send(401, b"", {"X-Error-Message": "Invalid username or password."})
                return
            revision = rest[1] if len(rest) > 1 else "main"
            commits = {commit(model, one): one for one in hub.revisions}
            if revision not in (*hub.revisions, *commits):
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            sha = revision if revision in commits else commit(model, revision)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            entries = [
                {
                    "rfilename": path.relative_to(folder).as_posix(),
                    "path": path.relative_to(folder).as_posix(),
                    "type": "file",
                    "size": path.stat().st_size,
                    "oid": _etag(path),
                    "blobId": _etag(path),
                }
                for path in files
            ]
            if rest[:1] == ["tree"]:
                self._send(200, json.dumps(entries).encode())
                return
            about: dict[str, Any] = {"id": model, "modelId": model, "sha": sha, "private": False}
            about |= {"tags": [], "downloads": 0, "likes": 0, "siblings": entries}
            self._send(200, json.dumps(about).encode())

        def _file(self, model: str, revision: str, name: str) -> None:
            if hub.gated:
                self._send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
                return
            path = hub.models[model] / name
            if not path.is_file():
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            commits = {commit(model, one) for one in hub.revisions}
            sha = revision if revision in commits else commit(model, revision)
            headers = {"X-Repo-Commit": sha, "ETag": f'"{_etag(path)}"', "Accept-Ranges": "bytes"}
            data, status = path.read_bytes(), 200
            wanted = self.headers.get("Range")
            if wanted:
                start = int(wanted.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                data, status = data[start:], 206
            if name == hub.cut and self.command == "GET":
                hub.cut = None
                self._send(status, data, headers, keep=len(data) // 2)
                self.close_connection = True
                return
            self._send(status, data, headers)

        def _send(
            self,
            status: int,
            body: bytes,
            headers: Mapping[str, str] | None = None,
            keep: int | None = None,
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[:keep])

    return Handler


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
