"""`turnout pull`: a repository on a Hugging Face hub → a router folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from turnout.cli.console import JSON_OPTION, OUTPUT_OPTION, next_command, print_json, say, stdout
from turnout.cli.verbs import verb


@verb("turnout pull my-org/session-router -o session-router/")
@click.argument("repo_id", metavar="ORG/NAME")
@OUTPUT_OPTION
@click.option("--revision", help="Branch, tag or commit.  [default: the newest commit]")
@JSON_OPTION
def command(repo_id: str, output: Path, revision: str | None, *, as_json: bool) -> None:
    """Fetch the router of the repository ORG/NAME; a file that is not as it was sent is refused.

    A private repository needs a token: `hf auth login`, or HF_TOKEN.
    """
    from turnout.hub import pull

    report = pull(repo_id, output, revision=revision)
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json(asdict(report))
    else:
        stdout().print(f"Router folder: {output}, commit {report.commit}")
        next_command("route", output, "Why does this deadlock?")
