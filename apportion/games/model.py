"""ModelGame: gates at inputs and activations of one forward pass, features and components alike."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..backward import Rules, Tape, unruled
from ..players import Players
from ..removals import Removal, blends, filling, within
from ..taps import Call, Site, edited, module_at, run
from ..types import BadRequest, Cited, Work
from ..values import Value
from .absence import (
    by_kind,
    draws_of,
    idle_note,
    idle_players,
    kind_at,
    refuse_undefined,
)
from .base import Description, Domain, admit, checked, derivatives, no_gradient, unreached
from .calls import admit_value, convention
from .editor import Editor
from .record import Recorder
from .ruled import admit_rules, refuse_unruled, unruled_note
from .survey import Clean, survey


@dataclass(frozen=True, eq=False)
class Question:
    """What a ModelGame asks."""

    model: nn.Module
    call: Call
    value: Value
    players: Players
    removal: Mapping[str, Removal]  # by kind of player
    shared: Collection[int | str] = ()
    rules: Rules | None = None
    # stand-ins for parameters, for randomisation checks
    weights: Mapping[str, Tensor] | None = None


class ModelGame:
    """A torch model asked what coalitions of players are worth to one of its outputs.

    Gates multiply in where the players live: 1 leaves the activation alone, 0 replaces it by what
    the removal says absence means. The model is used as it is: hooks are removed, parameters and
    modes untouched.

        game = ModelGame(model, image, Logit(285), patches(image, 32), Blend(blur(8)))

    `removal` is one removal, or one per kind of player: {"token": ..., "head": ...}. Tensors of the
    input that share the first one's batch axis are repeated per coalition; name those that must not
    be in `shared`. An input with several instances gives values with a leading instance axis. Costs
    one forward pass to look at the clean run, and one per reference input that has to be recorded
    inside the model.
    """

    def __init__(
        self,
        model: nn.Module,
        input: Any,
        value: Value,
        players: Players,
        removal: Removal | Mapping[str, Removal],
        *,
        shared: Collection[int | str] = (),
    ) -> None:
        each = by_kind(players, removal)
        self._begin(Question(model, Call.of(input), value, players, each, shared))

    def _begin(
        self, question: Question, clean: Clean | None = None, recorder: Recorder | None = None
    ) -> None:
        self.question = question
        views = question.players.views
        self._removals = {
            site: within(views.get(site), question.removal[kind])
            for site, kind in kind_at(question.players).items()
        }
        self.draws = draws_of(question.removal)
        if clean is None:
            start = convention(
                question.model, question.call, question.shared, admit_value(question.value).last
            )
            clean = survey(
                question.model, start, question.value, question.players, question.weights
            )
        self.clean = clean
        self.recorder = recorder if recorder is not None else self._recorder()
        self._editor = Editor(question.players, self._removals, clean, self.recorder)
        if recorder is None:
            self._idle_note = idle_note(
                question.players,
                question.removal,
                idle_players(question.players, clean.activations, self.recorder),
            )
        self._findings = (
            unruled(question.model, self.clean.convention.call, question.rules)
            if question.rules is not None
            else []
        )

    # -- what it offers

    @property
    def players(self) -> Players:
        return self.question.players

    @property
    def domain(self) -> Domain:
        soft = all(removal.domain == "unit" for removal in self.question.removal.values())
        return "unit" if soft else "binary"

    @property
    def price(self) -> Work:
        call = self.clean.convention.call
        made_up = [f for removal in self._removals.values() if (f := filling(removal)) is not None]
        more = sum(f.passes(call.tensors()[call.first()].shape[-1]) for f in made_up)
        return Work(forwards=self.clean.convention.instances * (1 + more))

    @property
    def grad_price(self) -> Work | None:
        n = self.clean.convention.instances
        outputs = max(self.clean.values[0].numel(), 1)
        runs = 2 if self.question.rules is not None and self.question.rules.paired else 1
        return Work(forwards=n * runs, backwards=n * outputs) if self.domain == "unit" else None

    @property
    def exact(self) -> bool:
        return self.question.rules is None

    @property
    def batch_key(self) -> object:
        rules = None if self.question.rules is None else self.question.rules.name
        return (weakref.ref(self.question.model), self.clean.convention.key, rules)

    @property
    def setup(self) -> Work:
        """Forward passes already spent: the clean run, and references recorded so far."""
        return Work(forwards=self.clean.runs + self.recorder.runs)

    def describe(self) -> Description:
        q = self.question
        removal = (
            ", ".join(f"{kind}: {how}" for kind, how in q.removal.items())
            if len(q.removal) > 1
            else str(next(iter(q.removal.values())))
        )
        names = dict.fromkeys(view.name for view in q.players.views.values())
        removal += f" (in the {' and the '.join(names)})" if names else ""
        notes = self.clean.notes + self._idle_note + self._unruled_note()
        name = q.rules.name if q.rules is not None else None
        return Description(
            str(q.players),
            str(q.value),
            q.value.unit,
            removal,
            type(q.model).__name__,
            name,
            notes,
            q.value.linear,
            self._cites(),
        )

    def _cites(self) -> tuple[str, ...]:
        q = self.question
        removals = q.removal.values()
        parts = [q.value, *removals, *(r.reference for r in removals), q.rules]
        found = [key for part in parts if isinstance(part, Cited) for key in part.cites]
        return tuple(dict.fromkeys(found))

    # -- the same question, changed

    def under(self, rules: Rules, *, strict: bool = False) -> ModelGame:
        """The same values with gradients bent by a rule table. `strict` refuses operations the
        table has no rule for.
        """
        admit_rules(rules)
        game = self._like(replace(self.question, rules=rules), self.clean, self.recorder)
        if strict:
            refuse_unruled(game._findings, rules)
        return game

    def removing(self, removal: Removal | Mapping[str, Removal]) -> ModelGame:
        """The same question with another meaning of absence."""
        each = by_kind(self.players, removal)
        return self._fresh(self._like(replace(self.question, removal=each, rules=None)))

    def at(self, input: Any) -> ModelGame:
        """The same question about another input of the same shape."""
        return self._fresh(self._like(replace(self.question, call=Call.of(input), rules=None)))

    def randomised(self, layer: str, rng: Generator) -> ModelGame:
        """The same question to a model whose parameters below `layer` ("" = all) are shuffled,
        tensor by tensor.

        Shuffling keeps each tensor's distribution. The user's parameters stay where they are.
        """
        module = module_at(self.question.model, layer)
        prefix = f"{layer}." if layer else ""
        weights = dict(self.question.weights or {})
        if all(p.numel() < 2 for p in module.parameters()):
            raise BadRequest(f"{layer or 'the model'!r} has no parameters that could be shuffled")
        for name, p in module.named_parameters():
            order = torch.randperm(p.numel(), generator=rng).to(p.device)
            weights[prefix + name] = p.detach().flatten()[order].reshape(p.shape)
        return self._fresh(self._like(replace(self.question, weights=weights, rules=None)))

    def explaining(self, value: Value) -> ModelGame:
        """The same players asked about another value."""
        return self._fresh(self._like(replace(self.question, value=value, rules=None)))

    def _fresh(self, game: ModelGame) -> ModelGame:
        """A game that was built anew, under the rules of this one."""
        return game if self.question.rules is None else game.under(self.question.rules)

    def _like(
        self, question: Question, clean: Clean | None = None, recorder: Recorder | None = None
    ) -> ModelGame:
        game = object.__new__(ModelGame)
        if recorder is not None:
            game._idle_note = self._idle_note
        game._begin(question, clean, recorder)
        return game

    # -- asking

    def value(self, gates: Tensor, draw: Tensor | None = None) -> Tensor:
        """V of each coalition, (row, *out). Ignores rules."""
        state = self._state(gates, draw)
        if not len(gates):
            return self._out(self.clean.values[:0].new_zeros(0, *self.clean.values.shape))
        with torch.no_grad():
            values = self._run(dict.fromkeys(self.players.owner, gates), state, bend=False)
        answer = checked(values.unflatten(0, (len(gates), -1)), gates, self._name())
        self._alone(answer, gates)
        return self._out(answer)

    def grad(self, gates: Tensor, draw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """V and d v / d gate, (row, *out) and (row, *out, player); bent by the rules if there are
        any.
        """
        if self.domain == "binary":
            raise no_gradient(self)
        state = self._state(gates, draw)
        count, n = len(gates), self.clean.convention.instances
        if not count:
            empty = self.value(gates, draw)
            return empty, empty[..., None].expand(*empty.shape, self.players.n)
        each = gates.to(_soft(gates)).detach()
        leaf = (each.clone() if n == 1 else each.repeat_interleave(n, 0)).requires_grad_()
        with torch.enable_grad(), _constants(self.question.model):
            # one way in per site, so that a site that leads nowhere is not taken for slopes of 0
            ways = {site: leaf.view_as(leaf) for site in self.players.owner}
            values = self._run(ways, state, bend=True)
            checked(values.detach().unflatten(0, (count, n)), gates, self._name())
            named = {f"the {site}": x for site, x in ways.items()}
            slopes, dead = derivatives(values, leaf, self._name(), named)
        if dead and self.question.rules is None:
            raise unreached(self._name(), dead)
        if dead:  # a table may cut on purpose; without it the site has to be connected
            self._like(replace(self.question, rules=None), self.clean, self.recorder).grad(
                gates[:1], state[:1]
            )
        return self._out(values.detach().unflatten(0, (count, n))), self._out(
            slopes.unflatten(0, (count, n))
        )

    def _state(self, gates: Tensor, draw: Tensor | None) -> Tensor:
        state = admit(self, gates, draw)
        if len(gates) and bool((gates == 0).all(-1).any()):
            refuse_undefined(self._removals.values())
        return state

    def _alone(self, values: Tensor, gates: Tensor) -> None:
        """Everyone present is the clean run: where it is not, other rows of the batch got in."""
        full = (gates == 1).all(-1)
        plain = all(blends(removal) for removal in self._removals.values())
        if len(gates) < 2 or not plain or not bool(full.any()):
            return
        clean = self.clean.values.to(values.device)
        kinds = [x.dtype for x in self.clean.activations.values()]
        loose = max(max(torch.finfo(kind).eps for kind in kinds) ** 0.5, 1e-3)
        off = (values[full] - clean).abs().max()
        if float(off) > loose * max(float(clean.abs().max()), 1.0):
            raise BadRequest(
                f"{self._name()} changes by {float(off):.2g} on the whole input when other "
                "coalitions are in the same batch: the model lets rows of a batch see each other. "
                "Use a model whose rows are independent, or attribute(..., chunk=1)."
            )

    def _run(self, gates: Mapping[Site, Tensor], draw: Tensor, *, bend: bool) -> Tensor:
        """Values of rows x instances, (row * instance, *out). `gates` at each site has one row per
        coalition, or per row x instance.
        """
        count, q = len(draw), self.question
        call = self.clean.convention.rows(count)
        entry = q.rules.entry() if bend and q.rules is not None else None
        tape = self._without_players(gates, draw) if bend else None
        edits = self._editor.edits(gates, draw, entry)
        with ExitStack() as stack:
            if bend and q.rules is not None:
                bending = stack.enter_context(q.rules.on(q.model, entry, tape))
                edits = {site: bending.outside(q.rules.arriving(e)) for site, e in edits.items()}
            stack.enter_context(edited(q.model, edits))
            output = run(q.model, call, q.weights)
        values = self.clean.value(output)
        if len(values) != count * self.clean.convention.instances:
            raise BadRequest(
                f"{self._name()} gave {len(values)} values for {count} coalitions of "
                f"{self.clean.convention.instances} instance(s): the model mixes or drops rows of "
                "a batch, so coalitions cannot be told apart. Use a model with one output row per "
                "input row."
            )
        return values

    def _without_players(self, gates: Mapping[Site, Tensor], draw: Tensor) -> Tape | None:
        """What a paired table compares with: the same rows and draws, nobody present."""
        q = self.question
        if q.rules is None or not q.rules.paired:
            return None
        refuse_undefined(self._removals.values())
        nobody = {site: torch.zeros_like(x) for site, x in gates.items()}
        edits, tape = self._editor.edits(nobody, draw), Tape()
        with torch.no_grad(), q.rules.on(q.model, tape=tape) as bending:
            outside = {site: bending.outside(edit) for site, edit in edits.items()}
            with edited(q.model, outside):
                run(q.model, self.clean.convention.rows(len(draw)), q.weights)
        return tape.rewind()

    def _out(self, x: Tensor) -> Tensor:
        """(row, instance, ...) on the CPU; one instance needs no axis."""
        return (x[:, 0] if self.clean.convention.instances == 1 else x).cpu()

    def _name(self) -> str:
        return f"{self.question.value} of {type(self.question.model).__name__}"

    # -- setting up

    def _recorder(self) -> Recorder:
        references = {site: removal.reference for site, removal in self._removals.items()}
        shapes = {site: tuple(x.shape) for site, x in self.clean.activations.items()}
        q = self.question
        return Recorder(q.model, self.clean.convention, references, shapes, q.weights)

    def _unruled_note(self) -> tuple[str, ...]:
        return unruled_note(self._findings, self.question.rules)


def _soft(gates: Tensor) -> torch.dtype:
    return (
        torch.float64
        if gates.dtype == torch.bool
        else torch.promote_types(gates.dtype, torch.float32)
    )


@contextmanager
def _constants(model: nn.Module) -> Iterator[None]:
    """Parameters need no gradient here: switched off, and on again afterwards, also after an
    exception.
    """
    switched = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in switched:
            p.requires_grad_(False)
        yield
    finally:
        for p in switched:
            p.requires_grad_(True)
