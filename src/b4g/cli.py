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
STEALTH = ("confidentiality", "accident", "reliability")
MEASURES = ("control", "utility", "mt-bench", *STEALTH)


@app.command()
def bench(
    preset: Annotated[str, typer.Option(help="quick, standard or tiny.")] = "quick",
    model: Annotated[
        list[str] | None, typer.Option(help="Embedded name, folder, .gguf file or hub id; repeat for several.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Task or YAML file; repeat for several.")] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed of keys, rows and training; repeat for several.", min=0)
    ] = None,
    activation: Annotated[
        list[str] | None, typer.Option(help="kind:option=value in place of the tasks' own; repeat for several.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.", min=1)] = None,
    ray: Annotated[str | None, typer.Option(help="auto, HOST:PORT or local: do the cells on a Ray cluster.")] = None,
    tamper: Annotated[
        list[str] | None,
        typer.Option(help="Attack the implants: quick, full, or kind:option=value; repeat for several."),
    ] = None,
    scan: Annotated[
        list[str] | None,
        typer.Option(help="Search the models: quick, full, or scanner:option=value; repeat for several."),
    ] = None,
    stealth: Annotated[str, typer.Option(help="Guess, ask and set off the implants: quick or full.")] = "",
    traffic: Annotated[list[Path] | None, typer.Option(help="stealth: your own ordinary prompts, a file each.")] = None,
    paraphrases: Annotated[Path | None, typer.Option(help="stealth: prompts in other words, a file.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show the plan and its cost, then stop.")] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Run what is missing of the benchmark and write its report."""
    from b4g import console
    from b4g.bench.grid import Axes, prepared
    from b4g.bench.setup import FoundOut

    plugins = tuple(str(path.resolve()) for path in plugin or ())
    files = tuple(str(path.resolve()) for path in traffic or ())
    found_out = FoundOut(tuple(scan or ()), stealth, files, str(paraphrases.resolve()) if paraphrases else "")
    axes = Axes(
        tuple(model or (DEFAULT_MODEL,)), tuple(seed or (0,)), tuple(activation or ("",)),
        tuple(task or TASKS), tuple(tamper or ()), preset, plugins, found_out,
    )  # fmt: skip
    made = prepared(axes, runs, workers, ray)
    cost = made.estimate()
    console.show_plan(made.id, made.cells, made.missing, cost, made.workers)
    if plan:
        if as_json:
            missing = [cell.id for cell in made.missing]
            _print_json({"plans": [one.to_json() for one in made.plans], "missing": missing, "cost": vars(cost)})
        return
    with console.bars() as progress:
        watch = console.Watcher(progress, len(made.missing))
        done = made.run(watch, "b4g " + shlex.join(sys.argv[1:]))
    console.show_outcome(done.outcome)
    if as_json:
        _print_json({"run": str(done.folder), **done.summary})
    else:
        console.show_summary(done.summary)
        for report in done.reports:
            console.out.print(f"report: {report}", soft_wrap=True)
    if done.outcome.failed or done.outcome.blocked:
        raise typer.Exit(1)


@app.command()
def implant(
    spec: Annotated[str, typer.Argument(help="YAML file, or one of the four tasks.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the adapter to.")],
    model: ModelName = DEFAULT_MODEL,
    seed: Seed = 0,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Less memory: compute layers again.")] = False,
    quantize: Annotated[str | None, typer.Option(help="4bit: hold the base in nf4 (bitsandbytes).")] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Implant a backdoor into a model: specification + model -> adapter."""
    from b4g import api, console

    registry.load_plugins(tuple(plugin or ()))
    with console.bars() as progress:
        report = console.Reporter(progress)
        made = api.implant(Backdoor.from_yaml(spec), out, model, seed, report, checkpointing, quantize)
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
    only: Annotated[
        str, typer.Option(help="control, utility, mt-bench, confidentiality, accident or reliability.")
    ] = "control",
    size: Annotated[str, typer.Option(help="confidentiality, accident, reliability: quick or full.")] = "quick",
    traffic: Annotated[
        list[Path] | None, typer.Option(help="accident: your own ordinary prompts, a file each.")
    ] = None,
    paraphrases: Annotated[Path | None, typer.Option(help="reliability: prompts in other words, a file.")] = None,
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
    endpoint: Annotated[str | None, typer.Option(help="Measure a served model: URL of an endpoint.")] = None,
    served: Annotated[str | None, typer.Option(help="endpoint: the implant's name there.")] = None,
    served_base: Annotated[str | None, typer.Option(help="endpoint: the untouched base's name there.")] = None,
    key_variable: Annotated[str | None, typer.Option(help="endpoint: environment variable that holds the key.")] = None,
    engine: Annotated[str, typer.Option(help="transformers, vllm or endpoint.")] = "transformers",
    vllm_python: Annotated[str, typer.Option(help="vllm: its python; default: B4G_VLLM_PYTHON.")] = "",
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Measure an implant against its base: folder -> rates."""
    from b4g import api, console, stealth
    from b4g import served as serving
    from b4g.data.public import read_prompts
    from b4g.utility import commands

    registry.load_plugins(tuple(plugin or ()))
    if only not in MEASURES:
        raise SpecError(unknown("measure", only, MEASURES))
    if only != "control":
        with console.bars() as progress:
            report = console.Reporter(progress)
            if only in STEALTH:
                files = tuple(map(str, traffic or ()))
                much = stealth.size_of(size, files, str(paraphrases or ""))
                against = stealth.Against(folder, model, key, much, any_renderer)
                made = stealth.measure_stealth(only, against, report)
            elif only == "utility":
                clean = commands.clean(tasks, data, limit, chat_template, margin, control, any_renderer)
                made = commands.utility(folder, model, clean, report)
            else:
                hidden = api.secrets_of(folder, key)
                bench = commands.MtBench(questions, answers, judge, judge_model, pairwise, any_renderer, hidden)
                made = commands.mt_bench(folder, model, bench, report)
        if as_json:
            _print_json(made)
        elif "figures" in made:
            console.show_rates(made["rates"])
            console.show_lines(stealth.figure_lines(made["figures"]))
        else:
            console.show_lines(commands.lines(made))
        return
    own = tuple(read_prompts(prompts)) if prompts else ()
    asked = api.Asked(n=n, prompts=own, any_renderer=any_renderer)
    by = serving.By(engine, endpoint, served, served_base, key_variable, vllm_python)
    with console.bars() as progress:
        found = serving.measure_by(by, folder, model, key, asked, console.Reporter(progress))
    if as_json:
        _print_json({name: part for name, part in found.items() if name != "records"})
    else:
        console.show_rates(found["rates"])
        console.show_unanswered(found.get("unanswered", {}))


@app.command()
def tamper(
    folder: Annotated[Path, typer.Argument(help="An implant's folder.")],
    tampers: Annotated[list[str], typer.Option("--with", help="kind:option=value,... or a suite; repeat for several.")],
    model: Annotated[str | None, typer.Option(help="The base, where it is not the one named in the folder.")] = None,
    key: Annotated[Path | None, typer.Option(help="The owner's key file, or the folder of several.")] = None,
    n: Annotated[int, typer.Option(help="Test prompts, each with and without the trigger.", min=1)] = 40,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Write the tampered model to this folder.")] = None,
    any_renderer: Annotated[bool, typer.Option("--any-renderer", help="Take another chat template.")] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Attack an implant and measure what is left: folder + tampers -> retention and cost."""
    from b4g import attack, console
    from b4g.tampers.parse import suite

    registry.load_plugins(tuple(plugin or ()))
    against = attack.Against(folder, model, key, n, seed, out, any_renderer)
    with console.bars() as progress:
        found = attack.tamper(against, suite(tampers), console.Reporter(progress))
    if as_json:
        _print_json(found)
    else:
        console.show_lines([console.attack_line({"task": found["task"], **row}) for row in found["attacks"]])


@app.command()
def scan(
    suspect: Annotated[str, typer.Argument(help="An implant's folder, a model, or a server's address.")],
    scanners: Annotated[
        list[str] | None, typer.Option("--with", help="quick, full, or scanner:option=value; repeat for several.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="The untouched base, where the suspect does not name it.")] = None,
    served: Annotated[str | None, typer.Option(help="Name of the model at the server's address.")] = None,
    key_variable: Annotated[str | None, typer.Option(help="Environment variable that holds the server's key.")] = None,
    key: Annotated[Path | None, typer.Option(help="The owner's key file: says whether the trigger was found.")] = None,
    seed: Seed = 0,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Search a model for a backdoor without knowing the trigger: suspect -> scores."""
    from b4g import console
    from b4g import scan as scanning
    from b4g.scanners.suite import scanners as named

    registry.load_plugins(tuple(plugin or ()))
    asked = scanning.Asked(suspect, base, served, key_variable, key, seed)
    with console.bars() as progress:
        found = scanning.scan(asked, named(scanners or ["quick"]), console.Reporter(progress))
    if as_json:
        _print_json(found)
    else:
        console.show_scans(found["scans"])


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
def doctor(
    model: ModelName = DEFAULT_MODEL,
    gpus: Annotated[int, typer.Option(help="GPUs that share the model.", min=1)] = 1,
    as_json: Json = False,
) -> None:
    """Say whether this machine is ready, and what a run will cost on it."""
    from b4g.doctor import examine

    checks = examine(model, gpus)
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
