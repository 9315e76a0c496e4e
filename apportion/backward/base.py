"""HOW GRADIENTS ARE BENT: tables of replacement derivatives over torch functions, active in one
forward pass.

Convention, library-wide: a replacement returns the value of the original operation, bit for bit,
and a modified gradient g such that relevance = x * g. The derivative by a gate at any site is then
the relevance of that site, because d(gate * x) / d gate = x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..types import BadRequest
from .aliases import CANONICAL, out_of_place, received, tensors_in
from .vjp import turned
from .written import SPECIAL, Written

# (operation, *args, **kwargs) -> its value with another derivative
Replacement = Callable[..., Any]
# (activation, gradient that arrives there) -> the gradient that goes on; (batch, *support) each
SiteRule = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Rules:
    """A table: canonical torch function -> replacement. Functions it does not list keep their own
    gradient. `at_site` bends the gradient once more, right where the players live.
    """

    name: str
    functions: Mapping[Callable, Replacement]
    # claim: credits of a cut sum to a value linear in the logits, where no biases add to it
    conserves: bool = False
    cites: tuple[str, ...] = ()
    at_site: SiteRule | None = None

    def __post_init__(self) -> None:
        """Any spelling may be written: the mode looks rules up under the canonical one."""
        canonical = {CANONICAL.get(f, f): rule for f, rule in self.functions.items()}
        for case, plain in SPECIAL.items():
            if plain in canonical:
                canonical.setdefault(case, canonical[plain])
        object.__setattr__(self, "functions", canonical)

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[Bending]:
        """Inside, operations of the table have their bent derivative. Enter it around the model's
        own forward only.
        """
        refuse_opaque(model, self.name)
        with Bending(self.functions) as bending:
            yield bending

    def arriving(self, work: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """What makes the activation at a site, with the site's rule behind it."""
        rule = self.at_site
        return work if rule is None else lambda x: turned(work(x), rule)

    def __or__(self, other: Rules) -> Rules:
        """Both tables; where both have a rule the right one's counts."""
        return Rules(
            f"{self.name} | {other.name}",
            {**self.functions, **other.functions},
            False,
            self.cites + other.cites,
            self.at_site if other.at_site is None else other.at_site,
        )

    def __repr__(self) -> str:
        return self.name


class Bending(TorchFunctionMode):
    """The table at work. `outside(f)` lifts it while f runs: blends and hooks are not part of the
    model.
    """

    def __init__(self, functions: Mapping[Callable, Replacement]) -> None:
        super().__init__()
        self.functions = functions
        self.paused = 0
        self.written = Written()

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
        if (
            self.paused
            or not torch.is_grad_enabled()
            or not any(x.requires_grad for x in tensors_in(args, kwargs))
        ):
            return func(*args, **kwargs)
        result = self._bent(func, args, kwargs)
        self.written.note(func, args, kwargs, result)
        return result

    def _bent(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        meant, second = self.written.meant(func, args, kwargs)
        rule = self.functions.get(meant)
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
