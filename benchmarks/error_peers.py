"""Shapley estimators of captum, shap and shapiq on a table of values, counted by wrapping it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from benchmarks.error_tasks import Table


@dataclass
class Asked:
    """A table as the peers call it, and how many rows they asked."""

    table: Table
    rows: int = 0
    values: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.values = self.table.worth.numpy()

    def __call__(self, present: np.ndarray) -> np.ndarray:
        present = np.atleast_2d(np.asarray(present)) > 0.5
        self.rows += len(present)
        return self.values[(present * (1 << np.arange(self.table.n))).sum(1)]


Peer = Callable[[Asked, int, int], np.ndarray]  # game, evaluations, seed


def captum_kernel(game: Asked, budget: int, seed: int) -> np.ndarray:
    from captum.attr import KernelShap

    return _captum(KernelShap, game, budget - 2, seed)


def captum_sampling(game: Asked, budget: int, seed: int) -> np.ndarray:
    from captum.attr import ShapleyValueSampling

    return _captum(ShapleyValueSampling, game, (budget - 2) // game.table.n, seed)


def _captum(kind: type, game: Asked, samples: int, seed: int) -> np.ndarray:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - it draws from the global generator
    ones = torch.ones(1, game.table.n, dtype=torch.float64)
    return (
        kind(lambda x: torch.as_tensor(game(x.numpy())))
        .attribute(ones, n_samples=max(samples, 1))[0]
        .numpy()
    )


def shap_kernel(game: Asked, budget: int, seed: int) -> np.ndarray:
    import shap

    np.random.seed(seed)  # noqa: NPY002 - it draws from the global generator
    n = game.table.n
    kernel = shap.KernelExplainer(game, np.zeros((1, n)))
    got = kernel.shap_values(np.ones((1, n)), nsamples=budget - 3, l1_reg=False, silent=True)
    return np.asarray(got).ravel()


def shap_permutation(game: Asked, budget: int, seed: int) -> np.ndarray:
    import shap

    n = game.table.n
    np.random.seed(seed)  # noqa: NPY002 - it draws from the global generator
    orders = shap.explainers.Permutation(game, np.zeros((1, n)), seed=seed)
    return np.asarray(orders(np.ones((1, n)), max_evals=budget - 2, silent=True).values).ravel()


def shapiq(name: str, *, leverage: bool = False, **options: object) -> Peer:
    """A row of shapiq; `leverage`: sizes drawn uniformly, as in Leverage SHAP."""

    def ask(game: Asked, budget: int, seed: int) -> np.ndarray:
        from shapiq import approximator

        n = game.table.n
        sizes = {"sampling_weights": np.array([0.0] + [1.0] * (n - 1) + [0.0])} if leverage else {}
        kind = vars(approximator)[name](n=n, random_state=seed, **options, **sizes)
        none = game.values[0]  # it is told what nobody is worth
        got = kind.approximate(budget, lambda rows: game(rows) - none)
        return np.array([got[(i,)] for i in range(n)])

    return ask


PEERS: dict[str, Peer] = {
    "captum-KernelShap": captum_kernel,
    "captum-ShapleyValueSampling": captum_sampling,
    "shap-KernelExplainer": shap_kernel,
    "shap-Permutation": shap_permutation,
    "shapiq-KernelSHAP": shapiq("KernelSHAP"),
    "shapiq-KernelSHAP-paired": shapiq("KernelSHAP", pairing_trick=True),
    "shapiq-KernelSHAP-leverage": shapiq("KernelSHAP", pairing_trick=True, leverage=True),
    "shapiq-kADDSHAP": shapiq("kADDSHAP"),
    "shapiq-kADDSHAP-3": shapiq("kADDSHAP", max_order=3),
    "shapiq-SVARM": shapiq("SVARM"),
    "shapiq-UnbiasedKernelSHAP": shapiq("UnbiasedKernelSHAP", pairing_trick=True),
    "shapiq-PermutationSamplingSV": shapiq("PermutationSamplingSV"),
    "shapiq-StratifiedSamplingSV": shapiq("StratifiedSamplingSV"),
    "shapiq-OwenSamplingSV": shapiq("OwenSamplingSV"),
}
FEW = ("captum-KernelShap", "shap-KernelExplainer", "shap-Permutation", "shapiq-KernelSHAP")
TOLD = "shapiq-kADDSHAP-3"  # on games of order three this one is told the order


def quietly(peer: Peer, game: Asked, budget: int, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peer(game, budget, seed)
