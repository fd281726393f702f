"""The command line: help, exit codes, one line for a user's error, results on stdout and progress on stderr."""

import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from b4g import cli

COMMANDS = ("bench", "implant", "measure", "report", "keygen", "ls", "doctor")


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text))


def test_help_names_every_command_with_its_line(b4g: Callable[..., Any]) -> None:
    ran = b4g("--help")
    assert ran.code == 0
    named = {
        command.name or command.callback.__name__: command.callback.__doc__ for command in cli.app.registered_commands
    }
    assert set(COMMANDS) <= set(named)
    for name, line in named.items():
        assert f" {name} " in ran.out
        assert str(line).rstrip(".")[:40] in _plain(ran.out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_explained(b4g: Callable[..., Any], command: str) -> None:
    import click
    import typer

    found = typer.main.get_command(cli.app)
    ran = b4g(command, "--help")
    assert ran.code == 0
    for parameter in found.commands[command].params:  # type: ignore[attr-defined]
        assert parameter.help, f"{command} {parameter.name} has no help"
        if not isinstance(parameter, click.Argument) and parameter.opts:
            assert max(parameter.opts, key=len) in ran.out


def test_the_version_is_the_installed_one(b4g: Callable[..., Any]) -> None:
    ran = b4g("--version")
    assert (ran.code, ran.out.strip()) == (0, version("b4g"))


def test_no_command_shows_the_help_and_is_a_usage_error(b4g: Callable[..., Any]) -> None:
    ran = b4g()
    assert ran.code == 2
    assert "bench" in ran.out + ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("bench", "--task", "saftey", "--plan"),
            "no specification at saftey. Give a YAML file or a task: safety, style",
        ),
        (("bench", "--preset", "qick", "--plan"), "unknown preset 'qick'. Did you mean 'quick'?"),
        (("bench", "--model", "smolm2", "--plan"), "unknown model 'smolm2'. Did you mean 'smollm2-135m'?"),
        (("bench", "--plugin", "gone.py", "--plan"), "plugin {here}/gone.py failed to import: FileNotFoundError"),
        (("implant", "no.yaml", "out"), "no specification at no.yaml"),
        (("measure", "nowhere"), "nowhere holds no implant.json: it is not an implant's folder"),
        (("measure", "nowhere", "--prompts", "p.doc"), "p.doc has the suffix '.doc'; wanted: .txt, .jsonl"),
        (("report", "nowhere"), "unknown run 'nowhere'. Known: none."),
        (("ls", "modles"), "unknown list 'modles'. Did you mean 'models'?"),
        (("keygen", "there.key"), "there.key exists; a key is never overwritten"),
    ],
)
def test_a_users_error_is_one_line_on_stderr_and_exit_2(
    b4g: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.key").touch()
    ran = b4g(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"b4g: {said.replace('{here}', str(tmp_path))}")
    assert ran.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.key"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\ntrigger: {kind: phrase, key: 'public:x', positon: prefix}", "Did you mean 'position'?"),
        ("name: x\ntriger: {}", "unknown field of a backdoor 'triger'. Did you mean 'trigger'?"),
        ("name: x", "the backdoor lacks the field 'trigger'"),
        ("[", "is not valid YAML"),
        ("name: ../x", "the backdoor lacks the field 'trigger'"),
    ],
)
def test_a_misspelt_specification_is_told_with_the_near_word(
    b4g: Callable[..., Any], tmp_path: Path, tiny_model: Path, text: str, said: str
) -> None:
    path = tmp_path / "mine.yaml"
    rest = "\nactivation: {kind: lora}\nutility: {kind: identity}" if "kind" in text else ""
    path.write_text(text + rest, "utf-8")
    for arguments in (("implant", path, tmp_path / "out"), ("bench", "--task", path, "--plan", "--runs", tmp_path)):
        ran = b4g(*arguments, "--model", tiny_model)
        assert (ran.code, ran.out) == (2, "")
        assert said in ran.err
        assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("bench", "--seed", "-1"),
        ("bench", "--workers", "0"),
        ("measure", "x", "--n", "0"),
        ("nothing",),
        ("ls", "--nope"),
    ],
)
def test_a_wrong_option_is_a_usage_error(b4g: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    ran = b4g(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err


def test_a_keyboard_interrupt_is_exit_130_with_what_to_type(
    b4g: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("b4g.listing.listing", interrupt)
    ran = b4g("ls")
    assert (ran.code, ran.out) == (130, "")
    assert ran.err.strip() == "b4g: stopped. Run the same command again to go on."


def test_a_file_the_system_refuses_is_one_line(b4g: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError(13, "Permission denied", "/secret/place")

    monkeypatch.setattr("b4g.listing.listing", refuse)
    ran = b4g("ls")
    assert (ran.code, ran.out, ran.err) == (2, "", "b4g: Permission denied: /secret/place.\n")
