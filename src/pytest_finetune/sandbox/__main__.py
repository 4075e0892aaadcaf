"""``python -m pytest_finetune.sandbox SETTINGS``: how `Sandbox` starts its server."""

from .server import main

main()
