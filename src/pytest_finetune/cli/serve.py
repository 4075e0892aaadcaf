"""``pytest-finetune serve``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from pytest_finetune.errors import MissingExtra


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8765, show_default=True, help="Port; 0 takes a free one.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for files, jobs and models. Without it they are gone at the end.",
)
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="NAME=SIZE",
    help="Another name for the small or large model.",
)
@click.option("--clock-speed", default=100.0, show_default=True, help="How many times faster than a real queue.")
@click.option("--seed", default=0, show_default=True, help="Seed of faults and of sampled answers.")
@click.option("--strict", is_flag=True, help="Answer as the published description says, without the live quirks.")
@click.option("--expose", is_flag=True, help="Allow an address that other machines can reach.")
def command(
    host: str,
    port: int,
    state: Path | None,
    aliases: tuple[str, ...],
    clock_speed: float,
    seed: int,
    strict: bool,
    expose: bool,
) -> None:
    """Serve the sandbox: an OpenAI-shaped API whose models learn from the files they are given.

    It needs no key, no network and no money. Its models are sandbox-small and sandbox-large;
    gpt-4o-mini and gpt-4o are other names for them.
    """
    if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("multipart") is None:
        raise MissingExtra("the sandbox is not installed: pip install 'pytest-finetune[sandbox]'")
    from pytest_finetune.sandbox.server import is_loopback, serve
    from pytest_finetune.sandbox.settings import ALIASES, Settings

    if not expose and not is_loopback(host):
        raise click.UsageError(
            f"{host} can be reached by other machines, and any key will do; add --expose to allow it."
        )
    settings = Settings(
        host=host,
        port=port,
        state_dir=state,
        aliases={**ALIASES, **_parse_aliases(aliases)},
        clock_speed=clock_speed,
        seed=seed,
        live_quirks=not strict,
    )
    try:
        serve(settings, started=_tell)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}. Try --port 0.") from None


def _parse_aliases(pairs: tuple[str, ...]) -> dict[str, str]:
    aliases = {}
    for pair in pairs:
        name, _, size = pair.partition("=")
        if not name or size not in {"small", "large"}:
            raise click.UsageError(f"--alias {pair}: write NAME=small or NAME=large.")
        aliases[name] = size
    return aliases


def _tell(address: str) -> None:
    click.echo(f"The sandbox listens on {address}/v1 (any key will do; Ctrl-C ends it).")
    click.echo(f"Its description: {address}/openapi.json")
