"""A hub on this machine: as much of the protocol as the real client needs to push and to pull.

Files live in memory, by commit. What the client asked for is kept, so that a test can look.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOKEN = "hf_written_in_a_test"
LFS_FROM_BYTES = 2_000


@dataclass
class Repository:
    private: bool
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{}])

    def files_of(self, revision: str) -> dict[str, bytes] | None:
        names = {commit_id(number): files for number, files in enumerate(self.commits)}
        return self.commits[-1] if revision == "main" else names.get(revision)


def commit_id(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()


class LocalHub:
    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.seen_tokens: set[str | None] = set()
        repo = "/{org}/{name}"
        self.app = Starlette(
            routes=[
                Route("/api/repos/create", self.create, methods=["POST"]),
                Route("/api/validate-yaml", self.validate, methods=["POST"]),
                Route(f"/api/models{repo}", self.info),
                Route(f"/api/models{repo}/revision/{{revision}}", self.info),
                Route(
                    f"/api/models{repo}/preupload/{{revision}}", self.preupload, methods=["POST"]
                ),
                Route(f"/api/models{repo}/commit/{{revision}}", self.commit, methods=["POST"]),
                Route(f"{repo}.git/info/lfs/objects/batch", self.batch, methods=["POST"]),
                Route("/blobs/{oid}", self.put_blob, methods=["PUT"]),
                Route(f"{repo}/resolve/{{revision}}/{{path:path}}", self.resolve),
            ]
        )

    def repository(self, request: Request) -> Repository | None:
        """None where it is absent, or private and asked for without the token."""
        named = self.repositories.get("{org}/{name}".format(**request.path_params))
        allowed = self.authorised(request)
        return None if named is None or (named.private and not allowed) else named

    def authorised(self, request: Request) -> bool:
        given = request.headers.get("authorization", "").removeprefix("Bearer ") or None
        self.seen_tokens.add(given)
        return given == TOKEN

    async def create(self, request: Request) -> Response:
        if not self.authorised(request):
            return JSONResponse({"error": "no right to write"}, 403)
        asked = await request.json()
        repo_id = f"{asked['organization']}/{asked['name']}"
        if repo_id in self.repositories:
            return JSONResponse({"error": "exists", "url": repo_id}, 409)
        self.repositories[repo_id] = Repository(asked["visibility"] == "private")
        return JSONResponse({"url": f"{request.base_url}{repo_id}"})

    async def validate(self, request: Request) -> Response:
        content = (await request.json())["content"]
        errors = [] if content.startswith("---\n") else [{"message": "no metadata"}]
        return JSONResponse({"errors": errors, "warnings": []}, 400 if errors else 200)

    async def info(self, request: Request) -> Response:
        repository = self.repository(request)
        if repository is None:
            return _absent("RepoNotFound")
        revision = request.path_params.get("revision", "main")
        files = repository.files_of(revision)
        if files is None:
            return _absent("RevisionNotFound")
        return JSONResponse(
            {
                "id": "{org}/{name}".format(**request.path_params),
                "private": repository.private,
                "sha": commit_id(repository.commits.index(files)),
                "siblings": [{"rfilename": name} for name in files],
            }
        )

    async def preupload(self, request: Request) -> Response:
        if not self.authorised(request):
            return JSONResponse({"error": "no right to write"}, 403)
        files = (await request.json())["files"]
        return JSONResponse(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["size"] > LFS_FROM_BYTES else "regular",
                        "shouldIgnore": False,
                    }
                    for file in files
                ]
            }
        )

    async def batch(self, request: Request) -> Response:
        objects = (await request.json())["objects"]
        for wanted in objects:
            href = f"{request.base_url}blobs/{wanted['oid']}"
            wanted["actions"] = {"upload": {"href": href}}
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def put_blob(self, request: Request) -> Response:
        content = await request.body()
        oid = request.path_params["oid"]
        if hashlib.sha256(content).hexdigest() != oid:
            return JSONResponse({"error": "not what was announced"}, 400)
        self.blobs[oid] = content
        return Response()

    async def commit(self, request: Request) -> Response:
        repository = self.repository(request)
        if repository is None or not self.authorised(request):
            return _absent("RepoNotFound")
        files = dict(repository.commits[-1])
        for line in (await request.body()).splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.blobs[value["oid"]]
        repository.commits.append(files)
        oid = commit_id(len(repository.commits) - 1)
        repo_id = "{org}/{name}".format(**request.path_params)
        address = f"{request.base_url}{repo_id}/commit/{oid}"
        return JSONResponse({"commitUrl": address, "commitOid": oid})

    async def resolve(self, request: Request) -> Response:
        repository = self.repository(request)
        if repository is None:
            return _absent("RepoNotFound")
        files = repository.files_of(request.path_params["revision"])
        if files is None or request.path_params["path"] not in files:
            return _absent("EntryNotFound")
        content = files[request.path_params["path"]]
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": commit_id(repository.commits.index(files)),
        }
        return Response(content, headers=headers)


def _absent(code: str) -> Response:
    return JSONResponse({"error": code}, 404, headers={"X-Error-Code": code})
