"""``python -m pytest_finetune``: the command ``pytest-finetune``."""

from pytest_finetune.cli import main

main()
