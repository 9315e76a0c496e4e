"""The command line: why, methods, doctor, report, demo."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import backward, zoo
from .attribute import versions
from .attribution import drawing
from .backward import unruled
from .explanation import Explanation, load
from .games.survey import unrunnable
from .listing import by_name, in_full, needs_listed, tables
from .models import FORMS, input_named, model_named
from .players import heads, mlps
from .subject import Subject
from .taps import Call
from .types import BadRequest, OverBudget
from .why import why as ask
from .wording import clock
from .zoo.samples import SUITS

INTERRUPTED, REFUSED = 130, 2
SCREEN = 20  # lines a doctor shows without --all
AGAINST = {"smollm2": " John"}  # the demo asks: why Mary rather than John?
DEMO = ("efficientnet-lite0", "smollm2", "digits", "breast-cancer")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Why did the model do that, and can I believe the answer?",
)
out = Console(soft_wrap=True)


def _version(asked: bool) -> bool:
    if asked:
        out.print(versions()["apportion"])
        raise typer.Exit
    return asked


def _seconds(given: str | float) -> float:
    """60, 60s and 1m are the same time."""
    text = str(given).strip().lower()
    unit = {"s": 1.0, "m": 60.0}.get(text[-1:])
    try:
        return float(text[:-1] if unit is not None else text) * (unit or 1.0)
    except ValueError:
        raise typer.BadParameter(f"{given!r} is no time; write 60, 60s or 2m") from None


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit.")
    ] = False,
) -> None:
    """Why did the model do that, and can I believe the answer?"""


def refusing(command: Callable[..., None]) -> Callable[..., None]:
    """Refusals and interruptions become one line and an exit code, not a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (BadRequest, OverBudget) as refusal:
            sys.stderr.write(f"apportion: {refusal}\n")
            raise typer.Exit(REFUSED) from None
        except KeyboardInterrupt:
            sys.stderr.write("apportion: interrupted; no answer was written\n")
            raise typer.Exit(INTERRUPTED) from None

    return run


@app.command(no_args_is_help=True)
@refusing
def why(
    model: Annotated[str, typer.Argument(help=FORMS)],
    input: Annotated[
        str | None,
        typer.Argument(
            help="A picture file, a text, numbers with commas, a CSV or .txt file, or sample:NAME. "
            "Zoo models have a sample of their own."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Class or token, by number or name. Default: predicted.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Why the target rather than this class or token?")
    ] = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write the report to this HTML file.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Save the answer to this folder, for ap.load.")
    ] = None,
    budget: Annotated[
        float,
        typer.Option(parser=_seconds, help="Time the answer may take, roughly: 60, 60s or 2m."),
    ] = 60.0,
    seed: Annotated[int, typer.Option(help="Same seed and plan, same answer.")] = 0,
) -> None:
    """Explain one prediction: features, components, and whether to believe it.

    Examples:
      apportion why zoo:efficientnet-lite0 sample:cat --out why.html

      apportion why zoo:efficientnet-lite0 holiday.jpg --target espresso

      apportion why zoo:smollm2 "The capital of France is" --against " London" --budget 30

      apportion why py:my_models:load_classifier 1.0,2.5,0.3

    """
    if out_file is not None:
        _writable(out_file)
    if save is not None:
        _writable(save / "explanation.json")
    subject = model_named(model)
    given = input_named(subject, input, model)
    answer = ask(subject, given, target=target, against=against, budget=budget, seed=seed)
    out.print(str(answer), markup=False, highlight=False)
    if save is not None:
        answer.save(save)
        out.print(f"saved: {save}", markup=False, highlight=False)
    if out_file is not None:
        answer.report(out_file)
        out.print(f"report: {out_file}", markup=False, highlight=False)


@app.command()
@refusing
def methods(
    name: Annotated[
        str | None, typer.Argument(help="A method by its usual name, or a row of the tables.")
    ] = None,
    needs: Annotated[
        str | None,
        typer.Option(help="Only those that need this of a game: hard, soft or gradient."),
    ] = None,
    players: Annotated[int, typer.Option(help="Number of players the costs are for.")] = 49,
    everything: Annotated[
        bool, typer.Option("--tables", help="The rows of every table instead of usual names.")
    ] = False,
) -> None:
    """List methods by their usual names: what they mean, need, cost and promise, whom to cite.

    With a name, that method or row of a table in full, with code to copy.

    Examples:
      apportion methods

      apportion methods grad-cam

      apportion methods --needs hard --players 200

      apportion methods --tables

    """
    if players < 1:
        raise BadRequest(f"--players {players}: costs are for at least one player")
    if name is not None:
        if needs is not None or everything:
            asked = f"--needs {needs}" if needs is not None else "--tables"
            raise BadRequest(
                f"methods {name} {asked}: a name shows one method in full, {asked} a list; write "
                f"apportion methods {name!r}, or apportion methods {asked}"
            )
        lines = in_full(name, players)
    else:
        show = tables if everything else by_name
        lines = show(needs_listed(needs), players)
    for text, style in lines:
        out.print(text, style=style or None, markup=False, highlight=False)
    if name is None:
        out.print("\nOne in full, with code: apportion methods NAME", style="dim")
        other = (
            "the usual names: apportion methods"
            if everything
            else "the rows of every table: --tables"
        )
        out.print(other, style="dim", markup=False, highlight=False)


@app.command(no_args_is_help=True)
@refusing
def doctor(
    model: Annotated[str, typer.Argument(help=FORMS)],
    input: Annotated[str | None, typer.Argument(help="An example input, as for why.")] = None,
    rules: Annotated[
        str, typer.Option(help=f"Rule table: {', '.join(backward.TABLE)}.")
    ] = "cp-lrp",
    everything: Annotated[bool, typer.Option("--all", help="Every operation, not a summary.")] = (
        False
    ),
) -> None:
    """Show what can be asked of a model, and which operations a backward rule table does not know.

    Examples:
      apportion doctor zoo:smollm2

      apportion doctor zoo:efficientnet-lite0 --rules epsilon --all

    """
    if rules not in backward.TABLE:
        raise BadRequest(f"no rule table {rules!r}; there are {', '.join(backward.TABLE)}")
    subject = model_named(model)
    given = subject.prepare(input_named(subject, input, model))
    for line in _about(subject):
        out.print(line, markup=False, highlight=False)
    found = _unruled(subject, Call.of(given.x), rules)
    if not found:
        out.print(f"{rules}: every operation with parameters or products has a rule")
        return
    kept = len([f for f in found if not f.falls_back])
    out.print(f"{rules}: {kept} operations without a rule keep their own gradient")
    if kept < len(found):
        out.print(
            f"{rules}: {len(found) - kept} operations without a rule fall back to a local one"
        )
    counts = Counter((f.operation, f.why, f.module, f.hint) for f in found)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("count", "operation", "why it matters", "in", "first place", "hint"):
        table.add_column(column, overflow="fold")
    for (operation, reason, module, hint), count in counts.most_common(
        None if everything else SCREEN
    ):
        first = next(f.path for f in found if (f.operation, f.module) == (operation, module))
        table.add_row(str(count), operation, reason, module, first or "the model", hint)
    out.print(table)
    if everything:
        for f in found:
            out.print(f"  {f.path or 'the model'}: {f.operation} ({f.why})", highlight=False)
    elif len(counts) > SCREEN:
        out.print(f"and {len(counts) - SCREEN} more kinds; see --all")


@app.command(no_args_is_help=True)
@refusing
def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders written by --save or why.save.")],
    out_file: Annotated[Path, typer.Option("--out", help="HTML file to write.")] = Path("why.html"),
) -> None:
    """Draw the report of saved answers again, several in one file.

    Example:
      apportion report answers/cat answers/mary --out both.html

    """
    _writable(out_file)
    answers = [load(folder) for folder in folders]
    wrong = [f for f, a in zip(folders, answers, strict=True) if not isinstance(a, Explanation)]
    if wrong:
        raise BadRequest(f"{wrong[0]} holds a single attribution; report needs answers of why()")
    drawing("report")(answers, out_file)
    out.print(f"report: {out_file}", markup=False, highlight=False)


@app.command()
@refusing
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder for the reports.")] = Path(
        "reports"
    ),
    budget: Annotated[
        float, typer.Option(parser=_seconds, help="Time per subject: 60, 60s or 2m.")
    ] = 60.0,
) -> None:
    """Explain four real subjects: a picture, a sentence, a digit and a table row.

    Example:
      apportion demo --out reports --budget 30

    """
    _writable(folder / "index.html")
    answers = []
    for i, name in enumerate(DEMO, 1):
        out.print(f"[{i}/{len(DEMO)}] zoo:{name} on sample:{SUITS[name]}", markup=False)
        subject = zoo.load(name)
        foil = AGAINST.get(name)
        answer = ask(subject, zoo.samples.sample(SUITS[name]), against=foil, budget=budget)
        path = answer.report(folder / f"{name}.html")
        spent = clock(sum(part.seconds for part in answer.parts))
        for line in (answer.question, answer.answer, f"{answer.trust.verdict}, {spent}: {path}"):
            out.print(f"    {line}", markup=False, highlight=False)
        answers.append(answer)
    index = drawing("report")(answers, folder / "index.html")
    out.print(f"all four in one: {index}", markup=False, highlight=False)


def main() -> None:
    """Entry point of the `apportion` command."""
    app()


def _writable(path: Path) -> None:
    """Refuses before the work, not after it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        with path.open("a", encoding="utf-8"):
            pass
        if not existed:
            path.unlink()
    except OSError as failure:
        raise BadRequest(
            f"cannot write {path}: {failure.strerror or failure}; choose a folder you may write to"
        ) from failure


def _unruled(subject: Subject, call: Call, rules: str) -> list[backward.Finding]:
    """What the table does not know; a model that fails on the input is refused in one line."""
    try:
        return unruled(subject.model, call, backward.TABLE[rules])
    except Exception as failure:
        refused = unrunnable(subject.model, call, failure)
        if refused is None:
            raise
        raise refused from failure


def _about(subject: Subject) -> list[str]:
    """What can be asked of this model."""
    model = subject.model
    count = sum(p.numel() for p in model.parameters())
    lines = [f"{subject.name or type(model).__name__}: {subject.kind}, {count:,} parameters"]
    training = [p or "the model" for p, m in model.named_modules() if m.training]
    if training:
        lines.append(f"in training mode: {len(training)} modules; call model.eval()")
    for name, build in (("heads", heads), ("MLPs", mlps)):
        try:
            lines.append(f"{name}: {build(model).n}")
        except BadRequest as refused:
            if subject.kind == "text":
                lines.append(f"{name}: none; {refused}")
    return lines


__all__ = ["app", "main"]
