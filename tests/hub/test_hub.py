"""A router goes to a hub and comes back the same: the real client, a real server, on loopback."""

import json
import os
import subprocess
import sys

import pytest

from tests.disks import fill, small_disk
from tests.hub.local_hub import LFS_FROM_BYTES, TOKEN, LocalHub, Repository, commit_id
from tests.network import watch
from tests.servers import free_port, running
from tests.tiny_router import write_router
from turnout.routing import Router, RouterFolder
from turnout.routing.folder import DESCRIPTION_NAME, set_threshold, write_description

pytestmark = pytest.mark.slow

CARD = "---\nlicense: apache-2.0\n---\n\n# A router\n"
REPO = "my-org/session-router"


@pytest.fixture
def hub():
    local = LocalHub()
    with running(local.app) as address:
        local.address = address
        yield local


@pytest.fixture
def router(tmp_path):
    """A router with a card, and the manifest that a training run leaves."""
    folder = write_router(tmp_path / "router")
    (folder / "README.md").write_text(CARD)
    write_description(folder, RouterFolder.read(folder).spec)
    (folder / "manifest.json").write_text('{"inputs": {"/home/anna/data": "00"}, "outputs": {}}')
    return folder


def commit(hub, router):
    """Put a router on the hub as a push would, without the client's process."""
    names = [*RouterFolder.read(router).files, DESCRIPTION_NAME]
    files = {name: (router / name).read_bytes() for name in names}
    hub.repositories.setdefault(REPO, Repository(private=True)).commits.append(files)


@pytest.fixture
def turnout(tmp_path, hub):
    """Runs a verb in its own process: the client reads its environment when it is imported."""

    def run(*arguments, token=TOKEN, endpoint=None, **stdin):
        environment = {
            **watch.environment(),
            "HF_ENDPOINT": endpoint or hub.address,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
        }
        environment.pop("HF_TOKEN", None)
        if token:
            environment["HF_TOKEN"] = token
        code = "from turnout.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True, text=True, check=False, env=environment, **stdin,
        )  # fmt: skip
        assert watch.attempts() == [], "only the hub is reached"
        return done

    return run


def test_a_pushed_router_comes_back_the_same_and_decides_the_same(tmp_path, hub, router, turnout):
    pushed = turnout("push", router, REPO, "--yes", "--json")
    assert pushed.returncode == 0, pushed.stderr
    repository = hub.repositories[REPO]
    assert repository.private
    assert len(repository.commits) == 2, "one commit, after the empty one"
    pulled = turnout("pull", REPO, "-o", tmp_path / "pulled", "--json")
    assert pulled.returncode == 0, pulled.stderr
    assert json.loads(pulled.stdout)["digest"] == RouterFolder.read(router).digest
    assert sorted(p.name for p in (tmp_path / "pulled").iterdir()) == sorted(
        [*json.loads(pushed.stdout)["files"], "manifest.json"]
    )
    decided = Router.from_folder(tmp_path / "pulled").decide("prove it")
    assert decided == Router.from_folder(router).decide("prove it")
    again = turnout("pull", REPO, "-o", tmp_path / "pulled")
    assert "up to date" in again.stderr


def test_large_files_go_by_lfs(tmp_path, hub, router, turnout):
    (router / "model.safetensors").write_bytes(os.urandom(LFS_FROM_BYTES + 1))
    write_description(router, RouterFolder.read(router).spec)
    assert turnout("push", router, REPO, "--yes").returncode == 0
    assert (router / "model.safetensors").read_bytes() in hub.blobs.values()
    assert turnout("pull", REPO, "-o", tmp_path / "pulled").returncode == 0


def test_paths_of_this_machine_and_files_beside_the_router_are_not_sent(hub, router, turnout):
    (router / "notes.txt").write_text("private")
    shown = turnout("push", router, REPO, "--yes")
    sent = hub.repositories[REPO].commits[-1]
    assert set(sent) == {*RouterFolder.read(router).files, DESCRIPTION_NAME}
    assert not any(b"/home/anna" in content for content in sent.values())
    assert all(name in shown.stderr for name in sent), "what is sent is shown"


def test_nothing_is_sent_before_the_user_says_yes(hub, router, turnout):
    refused = turnout("push", router, REPO, input="n\n")
    assert refused.returncode == 130
    assert "private" in refused.stderr
    assert hub.repositories == {}
    assert turnout("push", router, REPO, input="y\n").returncode == 0
    assert REPO in hub.repositories


def test_a_private_push_does_not_go_into_a_public_repository(hub, router, turnout):
    hub.repositories[REPO] = Repository(private=False)
    refused = turnout("push", router, REPO, "--yes")
    assert refused.returncode == 2
    assert "public" in refused.stderr
    assert hub.repositories[REPO].commits == [{}]
    assert turnout("push", router, REPO, "--yes", "--public").returncode == 0


def test_a_push_without_a_token_says_how_to_log_in(hub, router, turnout):
    refused = turnout("push", router, REPO, "--yes", token=None)
    assert refused.returncode == 2
    assert "hf auth login" in refused.stderr
    assert hub.seen_tokens == set(), "the hub was not asked"


def test_a_token_without_the_right_to_write_is_refused(router, turnout):
    refused = turnout("push", router, REPO, "--yes", token="hf_of_somebody_else")
    assert refused.returncode == 2
    assert "does not allow" in refused.stderr
    assert "hf_of_somebody_else" not in refused.stderr


@pytest.mark.parametrize(
    ("repo_id", "revision", "message"),
    [(REPO, "no-such-branch", "404"), ("my-org/another", None, "404"), ("a/b/c", None, "ORG/NAME")],
)
def test_what_the_hub_does_not_have_is_an_error_and_leaves_nothing(
    tmp_path, hub, router, turnout, repo_id, revision, message
):
    commit(hub, router)
    asked = ["--revision", revision] if revision else []
    failed = turnout("pull", repo_id, "-o", tmp_path / "pulled", *asked)
    assert failed.returncode in (2, 4)
    assert message in failed.stderr
    assert "internal error" not in failed.stderr
    assert not [p for p in tmp_path.iterdir() if "pulled" in p.name]


def test_a_full_disk_is_an_error_and_leaves_the_router_that_was_pulled_before(
    tmp_path, hub, router, turnout
):
    commit(hub, router)
    with small_disk(tmp_path / "disk", 1024) as disk:
        assert turnout("pull", REPO, "-o", disk / "pulled").returncode == 0
        before = RouterFolder.read(disk / "pulled").digest
        (router / "manifest.json").unlink()
        set_threshold(router, 0.7, "by hand")
        commit(hub, router)
        fill(disk, free_bytes=8192)
        failed = turnout("pull", REPO, "-o", disk / "pulled")
        assert failed.returncode == 7, failed.stderr
        assert failed.stderr.startswith(f"turnout: {disk / 'pulled'}: no space is left"), "alone"
        assert RouterFolder.read(disk / "pulled").digest == before
        assert sorted(path.name for path in disk.iterdir()) == ["filler", "pulled"]


def test_an_earlier_commit_can_be_pulled(tmp_path, hub, router, turnout):
    commit(hub, router)
    first = RouterFolder.read(router).digest
    (router / "manifest.json").unlink()
    set_threshold(router, 0.7, "by hand")
    commit(hub, router)
    info = json.loads(turnout("pull", REPO, "-o", tmp_path / "new", "--json").stdout)
    assert info["digest"] == RouterFolder.read(router).digest != first
    old = turnout("pull", REPO, "-o", tmp_path / "old", "--revision", commit_id(1), "--json")
    assert json.loads(old.stdout)["digest"] == first


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"{}", "sha256"),
        ("tokenizer.json", None, "404"),
        (DESCRIPTION_NAME, {"../outside": "0" * 64}, "plain file names"),
        (DESCRIPTION_NAME, b"[]", "expected an object"),
        (DESCRIPTION_NAME, None, "404"),
    ],
)
def test_what_was_changed_on_the_hub_is_refused(
    tmp_path, hub, router, turnout, name, content, message
):
    commit(hub, router)
    files = dict(hub.repositories[REPO].commits[-1])
    if content is None:
        del files[name]
    elif isinstance(content, dict):
        stored = json.loads(files[name])
        files[name] = json.dumps(stored | {"files": stored["files"] | content}).encode()
    else:
        files[name] = content
    hub.repositories[REPO].commits.append(files)
    refused = turnout("pull", REPO, "-o", tmp_path / "pulled")
    assert refused.returncode == 4, refused.stderr
    assert message in refused.stderr
    assert not [p for p in tmp_path.iterdir() if "pulled" in p.name or "outside" in p.name]


def test_a_hub_that_does_not_answer_is_an_error(tmp_path, router, turnout):
    nowhere = f"http://127.0.0.1:{free_port()}"
    for arguments in (("push", router, REPO, "--yes"), ("pull", REPO, "-o", tmp_path / "pulled")):
        failed = turnout(*arguments, endpoint=nowhere)
        assert failed.returncode == 5, failed.stderr
        assert "does not answer" in failed.stderr
