"""A small Hugging Face hub on loopback: enough of its HTTP interface for the real client."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPO = "acme/tiny-vit"
MAIN, OLD = "a" * 40, "b" * 40


@dataclass
class Hub:
    """Repositories, and what was asked of them."""

    files: dict[str, dict[str, bytes]]
    """By commit of `REPO`."""
    token: str = ""
    """Without it, if it is set, the repository is not to be seen."""
    gated: bool = False
    timm: list[str] = field(default_factory=list)
    """More repositories with the same files, which are listed."""
    cut: int = 0
    """Downloads of weights that end after so many bytes, once."""
    asked: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    """A hub whose one repository holds the files of ``folder``, and in an older commit the same with a README alone."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    hub = Hub(files={MAIN: files | {"README.md": b"# tiny"}, OLD: {**files, "README.md": b"# old"}})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            if path == "/set":  # by a test's process
                vars(hub).update(json.loads(urllib.parse.unquote(self.path.partition("?")[2])))
                self.send_json({})
                return
            repos = f"(?:{'|'.join(map(re.escape, (REPO, *hub.timm)))})"
            hub.asked.append(f"{self.command} {path}")
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self.refuse(401, "RepoNotFound", "Invalid username or password.")
            elif path == "/api/models":
                query = urllib.parse.parse_qs(self.path.partition("?")[2])
                found = [name for name in hub.timm if f"{query['author'][0]}/" in name and query["search"][0] in name]
                self.send_json([{"id": name, "modelId": name, "private": False, "tags": []} for name in found])
            elif match := re.fullmatch(rf"/api/models/{repos}(?:/revision/([^/]+))?", path):
                self.tell(match[1] or "main")
            elif match := re.fullmatch(rf"/api/models/{repos}/tree/([^/]+)", path):
                self.list(match[1])
            elif match := re.fullmatch(rf"/{repos}/resolve/([^/]+)/(.+)", path):
                self.give(match[1], match[2], body=body)
            else:
                self.refuse(404, "RepoNotFound", "Repository not found")

        def commit(self, revision: str) -> str | None:
            found = {"main": MAIN, "v1": OLD}.get(revision, revision)
            if found in hub.files:
                return found
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None

        def tell(self, revision: str) -> None:
            if commit := self.commit(revision):
                siblings = [{"rfilename": name} for name in hub.files[commit]]
                self.send_json({"id": REPO, "modelId": REPO, "sha": commit, "private": False, "tags": [], "siblings": siblings})

        def list(self, revision: str) -> None:
            if commit := self.commit(revision):
                self.send_json([{"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                                for name, content in hub.files[commit].items()])  # fmt: skip

        def give(self, revision: str, name: str, *, body: bool) -> None:
            commit = self.commit(revision)
            if commit is None:
                return
            if hub.gated:
                self.refuse(403, "GatedRepo", "Access to model is restricted")
                return
            content = hub.files[commit].get(name)
            if content is None:
                self.refuse(404, "EntryNotFound", "Entry not found")
                return
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if not body:
                return
            if hub.cut and name.endswith(".safetensors"):
                self.wfile.write(content[start : start + hub.cut])
                hub.cut, self.close_connection = 0, True
                return
            self.wfile.write(content[start:])

        def send_json(self, document: object) -> None:
            data = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def refuse(self, code: int, kind: str, message: str) -> None:
            self.send_response(code)
            self.send_header("X-Error-Code", kind)
            self.send_header("X-Error-Message", message)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
