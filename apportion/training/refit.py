"""Training again with other rows or other weights: many at once, kept on disk, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.func import vmap

from ..progress import watched
from ..types import BadRequest
from .data import Queries
from .fingerprint import of_code, of_module
from .net import Net
from .run import Recipe
from .stepping import Plan

Semantics = Literal["left out", "reweighted"]
TOGETHER = 64  # trainings stepped in one batch, and finished before a file is written

Weights = Float[Tensor, "fit row"]
Key = tuple[bytes, int]


@dataclass(frozen=True, eq=False)
class BlackBox:
    """A training that is only a function: `fit(weights, seed)` returns the trained model. All
    floating numbers of its state are kept, buffers among them.
    """

    fit: Callable[[Float[Tensor, "row"], int], nn.Module]
    rows: int  # how many training rows there are
    name: str  # tells its kept fits from those of another function: change it when data changes

    @cached_property
    def net(self) -> Net:
        """The model as a function of its parameters; found by one training on all rows."""
        with torch.enable_grad():
            return Net(self.fit(torch.ones(self.rows), 0).eval(), whole=True)


@dataclass(frozen=True, eq=False)
class Refits:
    """Trainings of one recipe by loss weights and seed; each is run once.

    left out     rows of weight 0 are gone: batches are drawn anew from the rest, by seed
    reweighted   start, order and denominators are those of the full training; only the rows' losses
                 are weighted

    With `folder` finished trainings are kept there in files of up to 64; a run that was killed goes
    on after the last one.
    """

    recipe: Recipe | BlackBox
    semantics: Semantics = "left out"
    folder: Path | None = None
    known: dict[Key, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.semantics not in ("left out", "reweighted"):
            raise BadRequest(
                f"semantics={self.semantics!r}; write 'left out' (rows of weight 0 are gone) or "
                "'reweighted' (order and denominators stay)"
            )
        if self.folder is not None:
            self.known.update(_read(self.folder, self.digest))

    @property
    def digest(self) -> str:
        """Tells fits of this recipe from those of another: data, start, order, optimiser."""
        if isinstance(self.recipe, BlackBox):
            facts = f"{self.semantics} {self.recipe.rows} {self.recipe.name}"
            return hashlib.sha256(facts.encode()).hexdigest()
        first = self.recipe.begin(0)
        told = hashlib.sha256(self.recipe.rows.digest.encode())
        told.update(self.recipe.net.flat(first).detach().cpu().double().numpy().tobytes())
        told_of = (
            self.semantics, repr(self.recipe.optimiser), repr(self.recipe.schedule),
            of_code(self.recipe.loss), self.recipe.epochs, self.recipe.batch,
            self.recipe.start is None, of_module(self.recipe.net.module),
        )  # fmt: skip
        told.update(repr(told_of).encode())
        if self.recipe.order is not None:
            order = self.recipe.order
            told.update(order.index.where(order.present, -1).numpy().tobytes())
        return told.hexdigest()

    def params(self, weights: Weights, seeds: Tensor) -> Float[Tensor, "fit p"]:
        """The final parameters of each training, as vectors."""
        keys = [_key(w, int(s)) for w, s in zip(weights, seeds, strict=True)]
        fresh = {key: row for row, key in enumerate(keys) if key not in self.known}
        rows = torch.tensor(list(fresh.values()), dtype=torch.long)
        names = list(fresh)
        if names:
            label = f"training {len(names)} times on other rows"
            with watched(label, len(names)) as tick:
                for at in range(0, len(names), TOGETHER):
                    part = rows[at : at + TOGETHER]
                    self._keep(names[at : at + TOGETHER], self._fit(weights[part], seeds[part]))
                    tick(len(part))
        return torch.stack([self.known[key] for key in keys])

    def values(
        self, weights: Weights, seeds: Tensor, queries: Queries
    ) -> Float[Tensor, "fit query"]:
        """The queries' values under each trained model."""
        net = self.recipe.net

        def one(vector: Tensor) -> Tensor:
            return queries.measure(net(net.named(vector), queries.input), queries.labels)

        vectors = self.params(weights, seeds)
        with torch.no_grad():
            try:
                return vmap(one, chunk_size=TOGETHER)(vectors)
            except RuntimeError:  # a layer that cannot be batched over models
                return torch.stack([one(vector) for vector in vectors])

    def _fit(self, weights: Weights, seeds: Tensor) -> Float[Tensor, "fit p"]:
        recipe = self.recipe
        if isinstance(recipe, BlackBox):
            with torch.enable_grad():
                ends = [recipe.fit(w, int(s)) for w, s in zip(weights, seeds, strict=True)]
            return torch.stack([recipe.net.flat(Net(end, whole=True).own) for end in ends])
        begun = {int(s): recipe.begin(int(s)) for s in seeds.unique()}
        starts = {k: torch.stack([begun[int(s)][k] for s in seeds]) for k in recipe.net.names}
        plan = plan_of(recipe, weights, seeds, self.semantics)
        stepper, take = recipe.stepper, recipe.rows.take
        if one_by_one(recipe.net):
            return recipe.net.flat(stepper.each(starts, plan, take))
        try:
            done = stepper.together(starts, plan, take)
        except RuntimeError:  # a layer that cannot be batched over models, or too little memory
            done = stepper.each(starts, plan, take)
        return recipe.net.flat(done)

    def _keep(self, keys: list[Key], params: Float[Tensor, "fit p"]) -> None:
        lost = ~torch.isfinite(params).all(-1)
        if bool(lost.any()):
            raise BadRequest(
                f"{int(lost.sum())} of {len(keys)} trainings on other rows diverged (NaN or "
                "infinite parameters); lower the learning rate of the recipe's schedule"
            )
        if self.folder is not None:
            _write(self.folder, self.digest, keys, params)
        self.known.update(zip(keys, params, strict=True))


GROUPED = 10_000  # parameters of a convolutional network up to which batching pays on a CPU


def one_by_one(net: Net) -> bool:
    """Batched over models, a convolution becomes a grouped one, which is slow on a CPU: larger
    such models are trained one after the other.
    """
    convolves = any(isinstance(m, nn.modules.conv._ConvNd) for m in net.module.modules())
    on_cpu = not any(p.is_cuda for p in net.module.parameters())
    return convolves and on_cpu and net.size > GROUPED


def plan_of(recipe: Recipe, weights: Weights, seeds: Tensor, semantics: Semantics) -> Plan:
    """The batches, weights, denominators and rates of several trainings, filled up to the
    longest.
    """
    if not bool(((weights >= 0) & torch.isfinite(weights)).all()):
        raise BadRequest("weights of training rows must be finite and at least 0")
    every = [
        recipe.batches(int(s), (w > 0) if semantics == "left out" else None)
        for w, s in zip(weights, seeds, strict=True)
    ]
    steps, width = max(b.steps for b in every), max(b.index.shape[1] for b in every)
    index = torch.zeros(len(every), steps, width, dtype=torch.long)
    # as wide as a single training reads them
    weight = torch.zeros(len(every), steps, width, dtype=torch.float64)
    size = torch.zeros(len(every), steps, dtype=torch.float64)
    rate = torch.zeros(len(every), steps, dtype=torch.float64)
    for m, b in enumerate(every):
        t, r = b.index.shape
        index[m, :t, :r] = b.index
        weight[m, :t, :r] = b.present * weights[m].double()[b.index]
        size[m, :t] = b.present.sum(-1)
        rate[m, :t] = recipe.schedule.rates(t)
    return Plan(index, weight, size, rate)


def _key(weights: Float[Tensor, "row"], seed: int) -> Key:
    """Present rows as bits where all weights are 0 or 1, else the weights themselves."""
    own = weights.detach().cpu().double().numpy()
    hard = bool(((own == 0) | (own == 1)).all())
    return (np.packbits(own.astype(bool)).tobytes() if hard else own.tobytes()), seed


def _write(folder: Path, digest: str, keys: list[Key], params: Tensor) -> None:
    """One file of finished fits, there whole or not at all."""
    width = max(len(bits) for bits, _ in keys)
    bits = np.zeros((len(keys), width), dtype=np.uint8)
    for row, (own, _) in enumerate(keys):
        bits[row, : len(own)] = np.frombuffer(own, dtype=np.uint8)
    blob = save(
        {
            "params": params.contiguous(),
            "weights": torch.from_numpy(bits),
            "width": torch.tensor([len(own) for own, _ in keys]),
            "seed": torch.tensor([seed for _, seed in keys]),
        },
        metadata={"refits": digest},
    )
    name = _name(blob)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{name}.part"
        draft.write_bytes(blob)
        draft.rename(folder / f"{name}.safetensors")
    except OSError as failure:
        raise BadRequest(
            f"cannot keep finished trainings in {folder}: {failure.strerror or failure}. Those "
            "kept so far stay; make room or choose another folder, and ask again"
        ) from failure


def _name(blob: bytes) -> str:
    """A file of fits is named by its content, which tells damage."""
    return hashlib.sha256(blob).hexdigest()[:16]


def _read(folder: Path, digest: str) -> dict[Key, Tensor]:
    """All finished fits in a folder; those of another recipe are refused."""
    known: dict[Key, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        blob = path.read_bytes()
        try:
            held = load(blob)
            head = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
        except (SafetensorError, ValueError) as failure:
            raise BadRequest(
                f"{path} is damaged: {failure}; delete it, and its trainings are run again"
            ) from failure
        told = head.get("__metadata__", {}).get("refits")
        if told is None:
            raise BadRequest(
                f"{path} holds no finished trainings but something else, and is left alone; give "
                "folder= a folder of its own"
            )
        if told != digest:
            raise BadRequest(
                f"{path} holds trainings of another recipe, other data or other semantics; give "
                "every recipe its own folder"
            )
        if _name(blob) != path.stem:
            raise BadRequest(
                f"{path} is damaged: its content does not match its name; delete it, and its "
                "trainings are run again"
            )
        for row in range(len(held["seed"])):
            own = held["weights"][row, : int(held["width"][row])].numpy().tobytes()
            known[own, int(held["seed"][row])] = held["params"][row]
    return known
