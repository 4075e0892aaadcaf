"""What a lock of others says is no part of a command."""

from __future__ import annotations

import sys

import pytest

from pytest_finetune.endpoints import Endpoint, Serving
from pytest_finetune.errors import EndpointError
from pytest_finetune.workflow.serving import Served


@pytest.mark.parametrize(("model", "name"), [("--help", "fine"), ("ft:fine", "-rf")])
def test_a_model_whose_name_is_an_option_is_not_deployed(model: str, name: str) -> None:
    endpoint = Endpoint("acme", "http://here/v1", serving=Serving(deploy=f"{sys.executable} {{model}} {{name}}"))
    with pytest.raises(EndpointError, match="begins with a dash: a command would take it as an option"):
        Served(endpoint, model, name).run("deploy", 10)


def test_what_a_model_is_called_is_one_word_of_the_command() -> None:
    serving = Serving(deploy=f"{sys.executable} -c 'import sys; sys.exit(len(sys.argv) - 2)' {{model}}")
    Served(Endpoint("acme", "http://here/v1", serving=serving), "a; rm -r . $(x) 'b' {name}", "c").run("deploy", 10)
