"""HOW GRADIENTS ARE BENT: tables of replacement derivatives over torch functions, active in one
forward pass.

Convention, library-wide: a replacement returns the value of the original operation, bit for bit,
and a modified gradient g such that relevance = x * g. The derivative by a gate at any site is then
the relevance of that site, because d(gate * x) / d gate = x.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..types import BadRequest
from .aliases import CANONICAL, CELLS, LAYERS, WEIGHTED, out_of_place, received, tensors_in
from .entry import Entry
from .paired import Paired, Tape
from .places import Inside, Place, Where, both, followed
from .vjp import turned
from .written import SPECIAL, Written, kind_of

# (operation, *args, **kwargs) -> its value with another derivative
Replacement = Callable[..., Any]
# (activation, gradient that arrives there) -> the gradient that goes on; (batch, *support) each
SiteRule = Callable[[Tensor, Tensor], Tensor]

Table = Mapping[Callable, Replacement | Paired]


@dataclass(frozen=True, eq=False)
class Rules:
    """A table: canonical torch function -> replacement. Functions it does not list keep their own
    gradient. `at_site` bends the gradient once more, right where the players live.
    """

    name: str
    functions: Table
    # claim: credits of a cut sum to a value linear in the logits, where no biases add to it
    conserves: bool = False
    cites: tuple[str, ...] = ()
    at_site: SiteRule | None = None
    # rules that count only in some places of the model, before `functions`; the last that fits
    placed: tuple[tuple[Where, Table], ...] = ()
    # rules of operations that read the players' input itself: they return relevance, not a gradient
    at_input: Mapping[Callable, Replacement] = field(default_factory=dict)
    # asked last: local rules of operations the table does not know, which are named all the same
    fallback: Table = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Any spelling may be written: the mode looks rules up under the canonical one."""
        object.__setattr__(self, "functions", _canonical(self.functions))
        object.__setattr__(self, "at_input", _canonical(self.at_input))
        object.__setattr__(self, "fallback", _canonical(self.fallback))
        placed = tuple((where, _canonical(table)) for where, table in self.placed)
        object.__setattr__(self, "placed", placed)
        if self.at_input and self.at_site is not None:
            raise BadRequest(
                f"{self.name} has rules for the first layer and one at the players' site; both say "
                "what arrives at a gate. Use one of the two."
            )

    def rule(self, operation: Callable, place: Place) -> Replacement | Paired | None:
        """The rule of an operation where it runs; None = its own gradient."""
        listed = self.listed(operation, place)
        return self.fallback.get(operation) if listed is None else listed

    def listed(self, operation: Callable, place: Place) -> Replacement | Paired | None:
        """The same without the fallback."""
        for where, table in reversed(self.placed):
            if operation in table and where(place):
                return table[operation]
        return self.functions.get(operation)

    def known(self) -> set[Callable]:
        """Operations it has a rule for, somewhere."""
        tables = (self.functions, self.at_input, *(table for _, table in self.placed))
        return {operation for table in tables for operation in table}

    @property
    def paired(self) -> bool:
        """Whether it compares two runs: then credit sums to v(all) - v(none)."""
        tables = (self.functions, self.fallback, *(table for _, table in self.placed))
        return any(isinstance(rule, Paired) for table in tables for rule in table.values())

    @property
    def claim(self) -> str:
        """What credit sums to under it."""
        if self.paired:
            return (
                "On values linear in the logits credit sums to v(all) - v(none), biases included, "
                "where every operation has a rule."
            )
        if self.conserves:
            return (
                "Conserves: on values linear in the logits, and without biases, credit sums to the "
                "value."
            )
        return "Does not claim to conserve."

    @contextmanager
    def on(
        self, model: nn.Module, entry: Entry | None = None, tape: Tape | None = None
    ) -> Iterator[Bending]:
        """Inside, operations of the table have their bent derivative. Enter it around the model's
        own forward only. A table that is `paired` needs a tape of the run without players.
        """
        refuse_opaque(model, self.name)
        wheres = [where for where, _ in self.placed]
        with followed(model, wheres) as path, Bending(self, path, entry, tape) as bending:
            yield bending

    def entry(self) -> Entry | None:
        """What gates at the input open, where the table has rules for it."""
        return Entry(self.at_input, self.name) if self.at_input else None

    def arriving(self, work: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """What makes the activation at a site, with the site's rule behind it."""
        rule = self.at_site
        return work if rule is None else lambda x: turned(work(x), rule)

    # -- tables made of tables

    def __or__(self, other: Rules) -> Rules:
        """Both tables; where both have a rule the right one's counts."""
        everywhere = other.functions.keys()
        placed = tuple((where, _without(table, everywhere)) for where, table in self.placed)
        return Rules(
            f"{self.name} | {other.name}",
            dict(self.functions) | dict(other.functions),
            False,
            self.cites + other.cites,
            self.at_site if other.at_site is None else other.at_site,
            tuple((where, table) for where, table in placed if table) + other.placed,
            {**{f: r for f, r in self.at_input.items() if f not in everywhere}, **other.at_input},
            dict(self.fallback) | dict(other.fallback),
        )

    def within(self, where: Where | str) -> Rules:
        """Its rules only in some places: a module pattern, layers(start, stop), or any function of
        a Place. To join with others: epsilon() | gamma(0.25).within("features.*").
        """
        if self.at_input or self.at_site is not None:
            raise BadRequest(
                f"{self.name} has rules where the players are, which is one place already; join it "
                "with `|` after within()"
            )
        chosen = Inside(where) if isinstance(where, str) else where
        placed = tuple((both(chosen, inner), table) for inner, table in self.placed)
        everywhere = dict(self.fallback) | dict(self.functions)
        own = ((chosen, everywhere),) if everywhere else ()
        return Rules(f"{self.name} in {where}", {}, False, self.cites, placed=own + placed)

    def only(self, operations: Iterable[Callable]) -> Rules:
        """Its rules for these operations: gamma(0.25).only(CONVOLUTIONS)."""
        kept = {CANONICAL.get(f, f) for f in operations}
        return Rules(
            self.name,
            {f: rule for f, rule in self.functions.items() if f in kept},
            False,
            self.cites,
            self.at_site,
            tuple((w, {f: r for f, r in table.items() if f in kept}) for w, table in self.placed),
            {f: rule for f, rule in self.at_input.items() if f in kept},
            {f: rule for f, rule in self.fallback.items() if f in kept},
        )

    def __repr__(self) -> str:
        return self.name


def _canonical(table: Mapping[Callable, Any]) -> dict[Callable, Any]:
    """Under canonical spellings; special cases follow their plain operation where not listed."""
    canonical = {CANONICAL.get(f, f): rule for f, rule in table.items()}
    for case, plain in SPECIAL.items():
        if plain in canonical:
            canonical.setdefault(case, canonical[plain])
    return canonical


def _without(table: Table, operations: Collection[Callable]) -> Table:
    return {f: rule for f, rule in table.items() if f not in operations}


class Bending(TorchFunctionMode):
    """The table at work. `outside(f)` lifts it while f runs: blends and hooks are not part of the
    model.
    """

    def __init__(
        self, rules: Rules, path: list[str], entry: Entry | None, tape: Tape | None
    ) -> None:
        super().__init__()
        self.rules, self.path, self.entry, self.tape = rules, path, entry, tape
        self.layers = 0  # operations with weights so far
        self.paused = 0
        self.written = Written()
        # the others are nothing to this table, unless gates at the input meet them
        self.concerned = rules.known() | rules.fallback.keys() | set(LAYERS)
        self.follows = bool(self.concerned & SPECIAL.keys())

    def outside(self, work: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The same function, run with ordinary derivatives."""

        def plainly(x: Tensor) -> Tensor:
            self.paused += 1
            try:
                return work(x)
            finally:
                self.paused -= 1

        return plainly

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        concerned = CANONICAL.get(func, func) in self.concerned or (
            self.follows and kind_of(func) is not None
        )
        if self.paused or not (concerned or self.entry is not None):
            return func(*args, **kwargs)
        meant, second = self.written.meant(func, args, kwargs)
        rule = self._rule(meant, func, args, kwargs)
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        if self.entry is not None and self.entry.meets(args, kwargs):
            if meant in self.entry.rules:
                rule = self.entry.rules[meant]
                func, args = self.entry.whole(func, args)
            elif rule is None and meant not in WEIGHTED | CELLS:
                return self.entry.moved(func, args, kwargs)
            else:  # a first layer of another kind
                args, kwargs = self.entry.ordinary(args, kwargs)
        if not any(x.requires_grad for x in tensors_in(args, kwargs)):
            return func(*args, **kwargs)
        result = _bent(rule, second, func, args, kwargs)
        if self.follows:
            self.written.note(func, args, kwargs, result)
        return result

    def _rule(
        self, meant: Callable, func: Callable, args: tuple, kwargs: dict
    ) -> Replacement | None:
        rule = self.rules.rule(meant, Place(self.path[-1], self.layers))
        self.layers += meant in LAYERS
        if not isinstance(rule, Paired):
            return rule
        if self.tape is None:
            raise BadRequest(
                f"{self.rules.name} compares two runs of a model; use game.under(...), which makes "
                "both"
            )
        return self.tape.facing(rule, func, args, kwargs)


def _bent(rule: Replacement | None, second: bool, func: Callable, args: tuple, kwargs: dict) -> Any:
    """A call under its rule; `second`: the variable of a gated product comes second."""
    if rule is None:
        return func(*args, **kwargs)
    operation, args, kwargs, into = out_of_place(func, args, kwargs)
    if second:  # a product of tensors is the same bits in either order
        operation, args, kwargs = torch.mul, tuple(tensors_in(args, kwargs)[::-1]), {}
    result = rule(operation, *args, **kwargs)
    return result if into is None else received(into, result)


def refuse_opaque(model: nn.Module, name: str) -> None:
    """Compiled and scripted modules hide their operations from a table: refused with the remedy."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise BadRequest(
                f"rule table {name}: {path or 'the model'!r} is a scripted module, which hides its "
                "operations. Use the module it was scripted from, or an estimator that needs no "
                "rules."
            )
        # known by where its class lives: importing torch._dynamo to compare types costs seconds
        if (
            type(module).__module__.startswith("torch._dynamo")
            or module._compiled_call_impl is not None
        ):
            raise BadRequest(
                f"rule table {name}: {path or 'the model'!r} is compiled, which hides its "
                "operations. Use the original module (for torch.compile(m) that is m), or an "
                "estimator that needs no rules."
            )
