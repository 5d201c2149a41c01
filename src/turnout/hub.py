"""Router folders to and from a Hugging Face hub, by its own client.

Only the client reads the token, from its environment or its login.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from turnout.errors import ArtifactError, SettingsError, UpstreamError, first_line
from turnout.manifest import Input, Manifest, package_version
from turnout.routing import RouterFolder
from turnout.routing.folder import DESCRIPTION_NAME, read_description
from turnout.stage import StageRun

_STATUS_NOT_ALLOWED = (401, 403)
# The base of all errors of the HTTP library that the client chose.
_TRANSPORT_ERROR: type[BaseException] = HfHubHTTPError.__mro__[1]


@dataclass(frozen=True, slots=True)
class PushPlan:
    """The files that a push would send.

    Attributes:
        router: The verified folder.
        repo_id: `ORG/NAME` on the hub.
        private: Whether a repository that is made for it is private.
        files: Name → bytes, in the order sent.
    """

    router: Path
    repo_id: str
    private: bool
    files: dict[str, int]

    @property
    def address(self) -> str:
        """The address of the repository."""
        return f"{constants.ENDPOINT}/{self.repo_id}"


@dataclass(frozen=True, slots=True)
class PullReport:
    """The result of a pull.

    Attributes:
        router: The folder.
        commit: The hub's commit.
        digest: The router's identity; see `RouterFolder`.
        fresh: False if this commit was there already.
    """

    router: Path
    commit: str
    digest: str
    fresh: bool


def plan_push(router: Path, repo_id: str, *, private: bool = True) -> PushPlan:
    """Verify a router folder and list what would be sent, without a request to the hub.

    `router.json` and the files it lists are sent. `manifest.json` is not: it names the paths of
    the machine that trained.

    Raises:
        ArtifactError: If the folder is not a complete router.
    """
    folder = RouterFolder.read(router)
    names = [*folder.files, DESCRIPTION_NAME]
    return PushPlan(
        router, repo_id, private, {name: (router / name).stat().st_size for name in names}
    )


def push(plan: PushPlan) -> str:
    """Send a router in one commit, so that the hub never shows half of it.

    Returns:
        The commit's address.

    Raises:
        ArtifactError: If the hub does not take what is sent.
        SettingsError: If no token is there, it may not write, the name is malformed, or the
            repository is public where a private one is wanted.
        UpstreamError: If the hub does not answer.
    """
    if not get_token():
        raise SettingsError(
            f"{constants.ENDPOINT}: there is no token; expected HF_TOKEN in the environment or a "
            "login. Run `hf auth login`."
        )
    api = _client()
    with _client_errors_as_ours(plan.repo_id):
        api.create_repo(plan.repo_id, private=plan.private, exist_ok=True)
        if plan.private and not api.model_info(plan.repo_id).private:
            raise SettingsError(
                f"{plan.address}: is public; expected a private repository. Choose another name, "
                "or say --public."
            )
        sent = api.create_commit(
            plan.repo_id,
            [CommitOperationAdd(name, plan.router / name) for name in plan.files],
            commit_message=f"Router from Turnout {package_version()}",
        )
    return str(sent.commit_url)


def pull(repo_id: str, out: Path, *, revision: str | None = None) -> PullReport:
    """Download a router from the hub; it appears only when its digests match.

    Args:
        repo_id: `ORG/NAME` on the hub.
        out: The router folder.
        revision: A branch, tag or commit; by default the newest commit.

    Raises:
        ArtifactError: If there is no such repository or revision, it holds no router, or a file
            is not the one that was pushed.
        SettingsError: If the token may not read it, or the name is malformed.
        StorageError: If the folder cannot be written.
        UpstreamError: If the hub does not answer.
    """
    with _client_errors_as_ours(repo_id):
        commit = str(_client().model_info(repo_id, revision=revision).sha)
    run = StageRun(out, Manifest("pull", {"router": [Input(f"hf://{repo_id}", commit)]}, {}))
    if run.is_done():
        return PullReport(out, commit, RouterFolder.read(out).digest, fresh=False)
    with run.output() as partial:
        with _client_errors_as_ours(repo_id), warnings.catch_warnings():
            # A full disk is reported once, by the write that fails.
            warnings.filterwarnings("ignore", "Not enough free disk space")
            _download(repo_id, commit, partial)
        digest = RouterFolder.read(partial).digest
    return PullReport(out, commit, digest, fresh=True)


def _download(repo_id: str, commit: str, folder: Path) -> None:
    """Download `router.json` first, as it lists the other files of the router."""
    api = _client()

    def bring(name: str) -> Path:
        return Path(api.hf_hub_download(repo_id, name, revision=commit, local_dir=folder))

    _, files = read_description(bring(DESCRIPTION_NAME), where=f"{repo_id}/{DESCRIPTION_NAME}")
    for name in files:
        bring(name)
    # The client's own notes: the folder holds the router alone.
    shutil.rmtree(folder / ".cache")


def _client() -> HfApi:
    return HfApi(library_name="turnout", library_version=package_version())


@contextmanager
def _client_errors_as_ours(repo_id: str) -> Iterator[None]:
    """Raise the client's errors as ours."""
    where = f"{constants.ENDPOINT}/{repo_id}"
    try:
        yield
    except HFValidationError as error:
        raise SettingsError(
            f"{repo_id}: not a name of the hub ({error}); expected ORG/NAME."
        ) from error
    except (LocalEntryNotFoundError, RuntimeError) as error:
        # What the client says when a transfer breaks off.
        raise UpstreamError(
            f"{where}: {first_line(error)} Expected the transfer to end. Run it again."
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        raise ArtifactError(
            f"{where}: {first_line(error)} Expected a router that `turnout push` sent. Check the "
            "name; a private one needs a token (`hf auth login`)."
        ) from error
    except HfHubHTTPError as error:
        raise _refused(where, error) from error
    except OfflineModeIsEnabled as error:
        raise UpstreamError(
            f"{where}: HF_HUB_OFFLINE is set; expected a connection to the hub. Unset it."
        ) from error
    except _TRANSPORT_ERROR as error:
        raise UpstreamError(
            f"{where}: the hub does not answer ({type(error).__name__}); expected an answer. Check "
            "the network and HF_ENDPOINT, and run it again."
        ) from error


def _refused(where: str, error: HfHubHTTPError) -> ArtifactError | SettingsError | UpstreamError:
    status = error.response.status_code
    if status in _STATUS_NOT_ALLOWED:
        return SettingsError(
            f"{where}: the hub does not allow it (HTTP {status}); expected a token with access "
            "to it. Make one for this organisation and run `hf auth login`."
        )
    return UpstreamError(
        f"{where}: HTTP {status}: {first_line(error)} Expected the hub to accept the "
        "request. Run it again."
    )
