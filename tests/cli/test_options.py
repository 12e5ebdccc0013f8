"""Options and their help, and what is said of settings named otherwise."""

import pytest
import typer

from fedbench.cli.hints import check_place, option_hint
from fedbench.cli.main import app
from fedbench.errors import SettingsError

COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("run --lr 0.1", "--lr is a setting: write --set recipe.lr=0.1"),
        ("sweep x --learning-rate=1", "--learning-rate is a setting: write --set recipe.lr=1"),
        ("run --batch-size", "--batch-size is a setting: write --set recipe.batch_size=VALUE"),
        ("run --num-clients 3", "--num-clients is called --clients"),
        ("run --alpha 3", "--alpha is called --beta"),
        ("run --min-size 3", "--min-size is a setting: write --set partition.min_size=3"),
        ("run --clients 3 --nonsense", None),
        ("status --lr 3", None),
        ("", None),
    ],
)
def test_an_option_that_is_a_setting_says_how_it_is_set(words, hint):
    options = [name for each in COMMANDS["run"].params for name in each.opts]
    assert option_hint(words.split(), options) == hint


def test_a_place_that_no_cell_has_names_the_one_that_was_meant():
    check_place("recipe.lr", "1")
    check_place("method.anything", "1")
    check_place("partition.shards", "1")
    with pytest.raises(SettingsError, match=r"write --set recipe\.lr=0\.1"):
        check_place("recipe.learning_rate", "0.1")
    with pytest.raises(SettingsError, match="budget has: ipc, pixels, scope"):
        check_place("budget.zzzz", "1")


def walk(group, path=()):
    for name, command in group.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield (*path, name), command
        else:
            yield from walk(inner, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(walk(COMMANDS)))
def test_help_is_one_line_and_an_example(path, command):
    first, *rest = command.help.splitlines()
    assert first.endswith(".")
    assert len(first) <= 96
    assert not first.split()[0].endswith(("s", "ing")), "the first word is an imperative"
    (example,) = [line for line in rest if line.startswith("Example: ")]
    assert example.startswith(f"Example: fedbench {' '.join(path)}")
    assert all(param.help for param in command.params if param.param_type_name == "option")
