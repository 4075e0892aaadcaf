"""``pytest-finetune merge``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument(
    "stores",
    nargs=-1,
    required=True,
    metavar="STORE...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--into", type=click.Path(dir_okay=False, path_type=Path), help="The store; else that of the project.")
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(), help="The project."
)
def command(stores: tuple[Path, ...], into: Path | None, root: Path) -> None:
    """Take the rows of other STOREs, such as those of the shards of a CI run, into one.

    The order does not matter, and a store that is merged twice changes nothing. An answer is kept
    rather than an error, and the earlier one of two answers. The STOREs stay as they are.
    """
    from pytest_finetune.store.merge import merge
    from pytest_finetune.workflow.run import STORE
    from pytest_finetune.workflow.settings import read_settings

    settings = read_settings(root.resolve())
    into = into or settings.folder / STORE
    merged = merge(into, stores, text=settings.store_text)
    taken = ", ".join(f"{count} of {store}" for count, store in zip(merged.counts, stores, strict=True))
    click.echo(
        f"Rows merged: {taken}. Rows in {into} now: {merged.total};"
        f" answers that differed, of which the earlier was kept: {merged.differed}."
    )
