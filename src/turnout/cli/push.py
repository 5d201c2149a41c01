"""`turnout push`: a router folder → a repository on a Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnout.cli.console import INPUT_PATH, JSON_OPTION, next_command, print_json, say, stdout
from turnout.cli.verbs import verb

if TYPE_CHECKING:
    from turnout.hub import PushPlan


@verb("turnout push session-router/ my-org/session-router")
@click.argument("router", type=INPUT_PATH)
@click.argument("repo_id", metavar="ORG/NAME")
@click.option("--public", is_flag=True, help="Everybody may read it.  [default: private]")
@click.option("--yes", is_flag=True, help="Send without asking.")
@JSON_OPTION
def command(router: Path, repo_id: str, *, public: bool, yes: bool, as_json: bool) -> None:
    """Send ROUTER, with its card, to the repository ORG/NAME in one commit.

    The token is the one of `hf auth login` or HF_TOKEN. manifest.json stays here: it names paths of
    this machine.
    """
    from turnout.hub import plan_push, push

    plan = plan_push(router, repo_id, private=not public)
    _show(plan)
    if not yes:
        click.confirm("Send this?", abort=True, err=True)
    address = push(plan)
    if as_json:
        print_json({"repository": plan.address, "commit": address, "files": plan.files})
    else:
        stdout().print(f"Sent: {address}")
        next_command("pull", repo_id, "-o", router.with_name("pulled-router"))


def _show(plan: PushPlan) -> None:
    for name, n_bytes in plan.files.items():
        say(f"  {name}  {n_bytes:,} bytes")
    say(f"To {plan.address}, {'private' if plan.private else 'public'}.")
