"""A stand-in for the Hugging Face Hub: repositories in memory, behind the API that clients call.

It takes every file inline (no LFS) and serves what was committed, so that huggingface_hub and
timm's own code do the rest.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_stand_in"
_COMMIT = "0" * 40


@dataclass
class Hub:
    """files: by repository and path. private: by repository."""

    url: str
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)


@contextmanager
def hub_server() -> Iterator[Hub]:
    hub = Hub("")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self._answer(401, {"error": "Invalid credentials"})
            if self.path == "/api/repos/create":
                wanted = json.loads(body)
                repo = f"{wanted['organization']}/{wanted['name']}"
                is_private = wanted.get("private") or wanted.get("visibility") == "private"
                hub.private.setdefault(repo, bool(is_private))
                hub.files.setdefault(repo, {})
                return self._answer(200, {"url": f"{hub.url}/{repo}", "id": repo, "name": repo})
            if "/preupload/" in self.path:
                files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                         for f in json.loads(body)["files"]]  # fmt: skip
                return self._answer(200, {"files": files})
            if "/commit/" in self.path:
                self._commit(body)
                url = f"{hub.url}/{self._repo()}/commit/{_COMMIT}"
                return self._answer(
                    200, {"success": True, "commitUrl": url, "commitOid": _COMMIT, "hookOutput": ""}
                )
            if self.path == "/api/validate-yaml":
                return self._answer(200, {"errors": [], "warnings": []})
            return self._answer(404, {"error": self.path})

        def do_HEAD(self) -> None:
            self._serve(with_body=False)

        def do_GET(self) -> None:
            self._serve(with_body=True)

        def _repo(self) -> str:
            return "/".join(self.path.split("/")[3:5])

        def _commit(self, body: bytes) -> None:
            repo = self._repo()
            for line in body.splitlines():
                operation = json.loads(line)
                if operation["key"] == "file":
                    value = operation["value"]
                    hub.files[repo][value["path"]] = base64.b64decode(value["content"])

        def _serve(self, with_body: bool) -> None:
            parts = self.path.split("?")[0].strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                repo = "/".join(parts[2:4])
                siblings = [{"rfilename": name} for name in hub.files.get(repo, {})]
                known = repo in hub.files
                return self._answer(200 if known else 404,
                                    {"id": repo, "sha": _COMMIT, "siblings": siblings})  # fmt: skip
            data = hub.files.get("/".join(parts[:2]), {}).get("/".join(parts[4:]))
            if data is None:
                return self._answer(404, {}, {"X-Error-Code": "EntryNotFound"})
            headers = {"X-Repo-Commit": _COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
            return self._send(200, data, headers, with_body)

        def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
            self._send(status, json.dumps(body).encode(), headers or {}, self.command != "HEAD")

        def _send(self, status: int, data: bytes, headers: dict[str, str], with_body: bool) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if with_body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
