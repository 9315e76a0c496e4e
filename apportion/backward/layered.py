"""Tables of layer-wise relevance propagation for stacks of layers: one rule for all, or different
rules by kind of layer and by depth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch.nn import functional as F  # noqa: N812 - the usual name

from ..types import BadRequest
from . import first, signed
from .activation import secant
from .aliases import ACTIVATIONS, CONVOLUTIONS, DENSE
from .base import Replacement, Rules
from .first import Bound
from .linear import epsilon as epsilon_rule
from .linear import plain
from .places import layers


def _layered(dense: Replacement, conv: Replacement) -> dict:
    """Relevance passes activations unchanged. Batch norm is a linear layer with its own gradient:
    it is not merged into the convolution before it.
    """
    return {
        **dict.fromkeys((F.embedding, F.batch_norm), plain),
        **dict.fromkeys(DENSE, dense),
        **dict.fromkeys(CONVOLUTIONS, conv),
        **dict.fromkeys(ACTIVATIONS, secant),
    }


# -- one rule for every layer


def epsilon(eps: float = 1e-6) -> Rules:
    """LRP-epsilon: stabilised linear layers and convolutions, relevance passes activations
    unchanged.
    """
    rule = epsilon_rule(eps)
    return Rules(f"epsilon({eps:g})", _layered(rule, rule), cites=("bach2015",))


def gamma(g: float = 0.25) -> Rules:
    """LRP-gamma: contributions that agree with the sign of a unit's sum count 1 + g times. 0 is
    gradient x input with activations passed, infinity is z+ where inputs are positive.
    """
    rule = signed.gamma(g)
    cites = ("montavon2019", "andéol2021")
    return Rules(f"gamma({g:g})", _layered(rule, rule), conserves=True, cites=cites)


def alpha_beta(alpha: float = 2.0, beta: float = 1.0, eps: float = 1e-6) -> Rules:
    """LRP-alpha-beta: activating contributions share alpha, inhibiting ones -beta of the relevance
    of each unit.
    """
    rule = signed.alpha_beta(alpha, beta, eps)
    return Rules(f"alpha_beta({alpha:g}, {beta:g})", _layered(rule, rule), cites=("bach2015",))


def z_plus(eps: float = 1e-6) -> Rules:
    """LRP-z+: only activating contributions get relevance; alpha_beta(1, 0)."""
    rule = signed.alpha_beta(1, 0, eps)
    return Rules("z_plus()", _layered(rule, rule), cites=("montavon2017", "bach2015"))


# -- rules for the layer that reads the players' input, to be joined with others by `|`


def z_box(low: Bound, high: Bound, eps: float = 1e-6) -> Rules:
    """The first layer by the box its inputs come from: lowest and highest value of an input after
    preprocessing. Credit is relevance itself, whatever the removal.
    """
    rule = first.z_box(low, high, eps)
    table = dict.fromkeys([*CONVOLUTIONS, *DENSE], rule)
    return Rules("z_box", {}, cites=("montavon2017",), at_input=table)


def flat(eps: float = 1e-6) -> Rules:
    """The first layer spreads a unit's relevance evenly over its inputs."""
    table = dict.fromkeys([*CONVOLUTIONS, *DENSE], first.flat(eps))
    return Rules("flat", {}, cites=("lapuschkin2019",), at_input=table)


def w_square(eps: float = 1e-6) -> Rules:
    """The first layer spreads a unit's relevance over its inputs by their squared weights."""
    table = dict.fromkeys([*CONVOLUTIONS, *DENSE], first.w_square(eps))
    return Rules("w_square", {}, cites=("montavon2017",), at_input=table)


AT_INPUT: dict[str, Callable[..., Rules]] = {"z-box": z_box, "flat": flat, "w-square": w_square}


# -- composites


def epsilon_plus(eps: float = 1e-6) -> Rules:
    """Convolutions by z+, linear layers by epsilon."""
    return _named("epsilon_plus()", epsilon(eps) | z_plus().only(CONVOLUTIONS), "kohlbrenner2020")


def epsilon_plus_flat(eps: float = 1e-6) -> Rules:
    """As epsilon_plus, with a flat first layer."""
    return _named("epsilon_plus_flat()", epsilon_plus(eps) | flat(), "kohlbrenner2020")


def epsilon_alpha2_beta1(eps: float = 1e-6) -> Rules:
    """Convolutions by alpha_beta(2, 1), linear layers by epsilon."""
    return _named(
        "epsilon_alpha2_beta1()",
        epsilon(eps) | alpha_beta(2, 1).only(CONVOLUTIONS),
        "kohlbrenner2020",
    )


def epsilon_alpha2_beta1_flat(eps: float = 1e-6) -> Rules:
    """As epsilon_alpha2_beta1, with a flat first layer."""
    return _named(
        "epsilon_alpha2_beta1_flat()", epsilon_alpha2_beta1(eps) | flat(), "kohlbrenner2020"
    )


def epsilon_gamma_box(
    low: Bound = -3.0, high: Bound = 3.0, eps: float = 1e-6, g: float = 0.25
) -> Rules:
    """Convolutions by gamma, linear layers by epsilon, and a first convolution by the box of its
    inputs; the default box suits inputs of about unit variance.
    """
    table = epsilon(eps) | gamma(g).only(CONVOLUTIONS) | z_box(low, high).only(CONVOLUTIONS)
    return _named("epsilon_gamma_box()", table, "kohlbrenner2020")


FALLS = ((0, 0.5), (5, 0.25), (8, 0.1), (11, 0.0))


def falling_gamma(
    falls: Sequence[tuple[int, float]] = FALLS, low: Bound = -3.0, high: Bound = 3.0
) -> Rules:
    """Gamma that falls with depth, and a first layer by the box of its inputs. `falls`: from which
    layer on which gamma counts; the default is that of similarity models on VGG-16.
    """
    starts = _starts(falls)
    if not starts or starts[0] != 0 or starts != sorted(set(starts)):
        raise BadRequest(
            f"falling_gamma({falls!r}): pairs (first layer, gamma), starting at layer 0 and "
            "increasing; write ((0, 0.5), (5, 0.25))"
        )
    table = gamma(falls[0][1])
    for (start, g), stop in zip(falls, [*starts[1:], None], strict=True):
        table = table | gamma(g).only([*CONVOLUTIONS, *DENSE]).within(layers(start, stop))
    return _named("falling_gamma", table | z_box(low, high), "eberle2020")


def _starts(falls: object) -> list[int]:
    """The first layer of each fall; none where they are no pairs of numbers."""
    if not isinstance(falls, Sequence) or isinstance(falls, str):
        return []
    pairs = [f for f in falls if isinstance(f, Sequence) and len(f) == 2 and isinstance(f[0], int)]
    return [start for start, _ in pairs] if len(pairs) == len(falls) else []


def _named(name: str, table: Rules, *cites: str) -> Rules:
    """A composite under its own name; each source once."""
    keys = tuple(dict.fromkeys((*cites, *table.cites)))
    functions = table.functions
    return Rules(name, functions, cites=keys, placed=table.placed, at_input=table.at_input)
