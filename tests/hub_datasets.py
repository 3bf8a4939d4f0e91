"""A stand-in for data sets on the Hugging Face Hub: the part of its API that HfFileSystem asks."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.served import served

TOKEN = "hf_stand_in_of_data_sets"
_COMMIT = "0" * 40


@dataclass
class DataSets:
    """files: by OWNER/NAME and path. private: which ask for TOKEN. n_bytes_sent: of files."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    url: str = ""
    n_bytes_sent: int = 0

    def may_read(self, request: Request) -> bool:
        repo = _repo(request)
        with_token = request.headers.get("authorization") == f"Bearer {TOKEN}"
        return repo in self.files and (with_token or repo not in self.private)

    def info(self, request: Request) -> Response:
        if not self.may_read(request):
            return _refused()
        if request.path_params.get("revision", "main") not in ("main", _COMMIT):
            return JSONResponse({"error": "no"}, 404, {"X-Error-Code": "RevisionNotFound"})
        return JSONResponse({"id": _repo(request), "sha": _COMMIT, "siblings": []})

    def tree(self, request: Request) -> Response:
        if not self.may_read(request):
            return _refused()
        files = self.files[_repo(request)]
        folder = request.path_params.get("path", "").strip("/")
        below = {path: data for path, data in files.items() if path.startswith(f"{folder}/")}
        below = below if folder else files
        if not below:
            return JSONResponse({"error": "no"}, 404, {"X-Error-Code": "EntryNotFound"})
        depth = len(folder.split("/")) if folder else 0
        found = {}
        for path, data in below.items():
            parts = path.split("/")
            for n in range(depth + 1, len(parts)):
                found["/".join(parts[:n])] = _folder("/".join(parts[:n]))
            found[path] = _file(path, data)
        if request.query_params.get("recursive", "false").lower() != "true":
            found = {k: v for k, v in found.items() if len(k.split("/")) == depth + 1}
        return JSONResponse([found[path] for path in sorted(found)])

    async def paths_info(self, request: Request) -> Response:
        if not self.may_read(request):
            return _refused()
        files = self.files[_repo(request)]
        if "json" in request.headers.get("content-type", ""):
            wanted = (await request.json())["paths"]
        else:
            wanted = [str(path) for path in (await request.form()).getlist("paths")]
        found = [_file(path, files[path]) for path in wanted if path in files]
        found += [
            _folder(path)
            for path in wanted
            if path not in files and any(one.startswith(f"{path}/") for one in files)
        ]
        return JSONResponse(found)

    def resolve(self, request: Request) -> Response:
        if not self.may_read(request):
            return _refused()
        data = self.files[_repo(request)].get(request.path_params["path"])
        if data is None:
            return JSONResponse({"error": "no"}, 404, {"X-Error-Code": "EntryNotFound"})
        asked = request.headers.get("range", "").removeprefix("bytes=")
        start, _, end = asked.partition("-")
        part = data[int(start or 0) : int(end) + 1 if end else None]
        self.n_bytes_sent += len(part)
        headers = {"X-Repo-Commit": _COMMIT, "ETag": f'"{_oid(data)}"', "Accept-Ranges": "bytes"}
        return Response(part, 206 if asked else 200, headers)


@contextmanager
def data_sets_server() -> Iterator[DataSets]:
    hub = DataSets()
    api, of = "/api/datasets/{owner}/{name}", "/datasets/{owner}/{name}"
    app = Starlette(
        routes=[
            Route(api, hub.info),
            Route(f"{api}/revision/{{revision}}", hub.info),
            Route(f"{api}/tree/{{revision}}", hub.tree),
            Route(f"{api}/tree/{{revision}}/{{path:path}}", hub.tree),
            Route(f"{api}/paths-info/{{revision}}", hub.paths_info, methods=["POST"]),
            Route(f"{of}/resolve/{{revision}}/{{path:path}}", hub.resolve),
        ]
    )
    with served(app) as hub.url:
        yield hub


def _repo(request: Request) -> str:
    return f"{request.path_params['owner']}/{request.path_params['name']}"


def _refused() -> Response:
    """What the Hub answers for what is private and for what does not exist, alike."""
    return JSONResponse({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _file(path: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "oid": _oid(data), "size": len(data), "path": path}


def _folder(path: str) -> dict[str, object]:
    return {"type": "directory", "oid": _oid(path.encode()), "size": 0, "path": path}
