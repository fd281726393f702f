"""The command line: no logic, only names, help and exit codes."""

import os

# Threads that spin while they wait slow a busy machine tenfold; torch reads this once, at its import.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import json
import shlex
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated, Any

import typer

from b4g import registry
from b4g.backdoor import TASKS, Backdoor
from b4g.errors import B4GError, SpecError, StoreError, unknown

app = typer.Typer(
    name="b4g",
    help="Implant, measure, attack and report beneficial backdoors in language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
ModelName = Annotated[str, typer.Option(help="Embedded name, folder, .gguf file or hub id.")]
Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="Python file with components of your own.")]
Seed = Annotated[int, typer.Option(help="Seed of keys, rows and training.", min=0)]
DEFAULT_MODEL = "smollm2-135m"
MEASURES = ("control", "utility", "mt-bench")


@app.command()
def bench(
    preset: Annotated[str, typer.Option(help="quick, standard or tiny.")] = "quick",
    model: ModelName = DEFAULT_MODEL,
    task: Annotated[list[str] | None, typer.Option(help="Task or YAML file; repeat for several.")] = None,
    seed: Seed = 0,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.", min=1)] = None,
    tamper: Annotated[
        list[str] | None,
        typer.Option(help="Attack the implants: quick, full, or kind:option=value; repeat for several."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show the plan and its cost, then stop.")] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Run what is missing of the benchmark and write its report."""
    from b4g import console
    from b4g.bench.api import prepare
    from b4g.bench.setup import arguments

    plugins = tuple(str(path.resolve()) for path in plugin or ())
    asked = arguments(model, tuple(task or TASKS), preset, seed, plugins, tuple(tamper or ()))
    made = prepare(asked, runs, workers)
    cost = made.estimate()
    console.show_plan(made.plan.id, made.plan.cells, made.missing, cost, made.workers)
    if plan:
        if as_json:
            _print_json(
                {"plan": made.plan.to_json(), "missing": [cell.id for cell in made.missing], "cost": vars(cost)}
            )
        return
    with console.bars() as progress:
        watch = console.Watcher(progress, len(made.missing))
        done = made.run(watch, "b4g " + shlex.join(sys.argv[1:]))
    console.show_outcome(done.outcome)
    if as_json:
        _print_json({"run": str(done.folder), **done.summary})
    else:
        console.show_summary(done.summary)
        console.out.print(f"report: {done.folder / 'report.html'}", soft_wrap=True)
    if done.outcome.failed or done.outcome.blocked:
        raise typer.Exit(1)


@app.command()
def implant(
    spec: Annotated[str, typer.Argument(help="YAML file, or one of the four tasks.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the adapter to.")],
    model: ModelName = DEFAULT_MODEL,
    seed: Seed = 0,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Implant a backdoor into a model: specification + model -> adapter."""
    from b4g import api, console

    registry.load_plugins(tuple(plugin or ()))
    with console.bars() as progress:
        made = api.implant(Backdoor.from_yaml(spec), out, model, seed, console.Reporter(progress))
    if as_json:
        _print_json(made)
    else:
        console.out.print(
            f"{out}: {made['steps']} steps in {made['seconds']:.0f} s. Next: b4g measure {out}", soft_wrap=True
        )


@app.command()
def measure(
    folder: Annotated[Path, typer.Argument(help="An implant's folder.")],
    prompts: Annotated[Path | None, typer.Option(help="Your own prompts: .txt, .jsonl, .json or .csv.")] = None,
    model: Annotated[str | None, typer.Option(help="The base, where it is not the one named in the folder.")] = None,
    key: Annotated[Path | None, typer.Option(help="The owner's key file, or the folder of several.")] = None,
    n: Annotated[int, typer.Option(help="Test prompts in each arm.", min=1)] = 100,
    any_renderer: Annotated[
        bool, typer.Option("--any-renderer", help="Take another chat template, base unchecked.")
    ] = False,
    only: Annotated[str, typer.Option(help="control, utility or mt-bench.")] = "control",
    control: Annotated[Path | None, typer.Option(help="utility: the control's folder, to compare with.")] = None,
    tasks: Annotated[str | None, typer.Option(help="utility: lm-eval tasks, with commas between.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="utility: TASK=FILE read in place of the hub's.")] = None,
    limit: Annotated[int | None, typer.Option(help="utility: items of each task.", min=1)] = None,
    chat_template: Annotated[bool, typer.Option("--chat-template", help="utility: items as chats.")] = False,
    margin: Annotated[float, typer.Option(help="utility: points of accuracy that may be lost.")] = 1.0,
    questions: Annotated[Path | None, typer.Option(help="mt-bench: the file of questions.")] = None,
    answers: Annotated[Path, typer.Option(help="mt-bench: where answers and judgements are kept.")] = Path("mt-bench"),
    judge: Annotated[str | None, typer.Option(help="mt-bench: URL of an OpenAI-compatible endpoint.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="mt-bench: the judge's model name.")] = None,
    pairwise: Annotated[bool, typer.Option("--pairwise", help="mt-bench: implant against base.")] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Measure an implant against its base: folder -> rates."""
    from b4g import api, console
    from b4g.data.public import read_prompts
    from b4g.utility import commands

    registry.load_plugins(tuple(plugin or ()))
    if only not in MEASURES:
        raise SpecError(unknown("measure", only, MEASURES))
    if only != "control":
        with console.bars() as progress:
            report = console.Reporter(progress)
            if only == "utility":
                clean = commands.clean(tasks, data, limit, chat_template, margin, control, any_renderer)
                made = commands.utility(folder, model, clean, report)
            else:
                hidden = api.secrets_of(folder, key)
                bench = commands.MtBench(questions, answers, judge, judge_model, pairwise, any_renderer, hidden)
                made = commands.mt_bench(folder, model, bench, report)
        _print_json(made) if as_json else console.show_lines(commands.lines(made))
        return
    own = tuple(read_prompts(prompts)) if prompts else ()
    asked = api.Asked(n=n, prompts=own, any_renderer=any_renderer)
    with console.bars() as progress:
        found = api.measure(folder, model, key, asked, console.Reporter(progress))
    if as_json:
        _print_json({"rates": found["rates"], "differences": found["differences"]})
    else:
        console.show_rates(found["rates"])


@app.command()
def tamper(
    folder: Annotated[Path, typer.Argument(help="An implant's folder.")],
    tampers: Annotated[list[str], typer.Option("--with", help="kind:option=value,... or a suite; repeat for several.")],
    model: Annotated[str | None, typer.Option(help="The base, where it is not the one named in the folder.")] = None,
    key: Annotated[Path | None, typer.Option(help="The owner's key file, or the folder of several.")] = None,
    n: Annotated[int, typer.Option(help="Test prompts, each with and without the trigger.", min=1)] = 40,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Write the tampered model to this folder.")] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Attack an implant and measure what is left: folder + tampers -> retention and cost."""
    from b4g import attack, console
    from b4g.tampers.parse import suite

    registry.load_plugins(tuple(plugin or ()))
    against = attack.Against(folder, model, key, n, seed, out)
    with console.bars() as progress:
        found = attack.tamper(against, suite(tampers), console.Reporter(progress))
    if as_json:
        _print_json(found)
    else:
        console.show_lines([console.attack_line({"task": found["task"], **row}) for row in found["attacks"]])


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    out: Annotated[Path | None, typer.Option(help="HTML file; default: report.html in the run's folder.")] = None,
) -> None:
    """Write the report of a run: folder -> one HTML file."""
    from b4g.report.build import write_report

    if not run.is_dir():
        known = [path.name for path in run.parent.iterdir() if path.is_dir()] if run.parent.is_dir() else []
        raise StoreError(unknown("run", run.name, known))
    typer.echo(write_report(run, out))


@app.command()
def keygen(
    path: Annotated[Path, typer.Argument(help="Key file to write (mode 0600).")],
    words: Annotated[int, typer.Option(help="Words of the key: 10 bits each.", min=1, max=16)] = 4,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read the secret text from stdin instead.")] = False,
) -> None:
    """Write a new key file; the secret is never shown."""
    from b4g import keys

    key = keys.generate(path, words, sys.stdin.read() if stdin else None)
    entropy = "of your own text" if key.bits is None else f"of {key.bits:.0f} bits"
    typer.echo(f"{path}: a key {entropy}, readable by you alone. Name it in a specification: key: {path.name}")


@app.command(name="ls")
def list_components(
    what: Annotated[str | None, typer.Argument(help="models, tasks, triggers, behaviours, activations, ...")] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """List models, tasks, triggers, behaviours, activations, tampers, scanners and presets."""
    from b4g.listing import listing

    registry.load_plugins(tuple(plugin or ()))
    found = listing()
    if what is not None and what not in found:
        raise SpecError(unknown("list", what, found))
    chosen = {what: found[what]} if what else found
    if as_json:
        _print_json(chosen)
        return
    for title, rows in chosen.items():
        typer.echo(title)
        for name, line in rows.items():
            typer.echo(f"  {name:<16} {line}")


@app.command()
def doctor(model: ModelName = DEFAULT_MODEL, as_json: Json = False) -> None:
    """Say whether this machine is ready, and what a run will cost on it."""
    from b4g.doctor import examine

    checks = examine(model)
    if as_json:
        _print_json([vars(check) for check in checks])
    else:
        for check in checks:
            typer.echo(f"{'ok  ' if check.ok else 'NOT '} {check.what}: {check.found}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    """Take the options that stand before any command."""
    if version:
        typer.echo(installed("b4g"))
        raise typer.Exit


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def main() -> None:
    """Run the command line: exit 0 done, 1 part failed, 2 the user can fix it, 130 stopped by Ctrl-C."""
    try:
        app()
    except B4GError as error:
        typer.echo(f"b4g: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        from b4g.bench.store import hint

        typer.echo(f"b4g: {error.strerror or error}: {error.filename or ''}.{hint(error)}", err=True)
        sys.exit(2)
    except SystemExit as leaving:
        # Typer turns Ctrl-C into this exit code and says nothing.
        if leaving.code == 130:
            typer.echo("b4g: stopped. Run the same command again to go on.", err=True)
        raise
