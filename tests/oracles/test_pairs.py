"""Pairs across two inputs: integrated Jacobians and BiLRP, against their identities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import apportion as ap
from apportion.players import same
from tests.small import close, mlp, normal, seeded

A, B = normal(1, 6, seed=1), normal(1, 6, seed=2)
REFERENCES = normal(1, 6, seed=3), normal(1, 6, seed=4)
EXACT = ap.PathIntegral(steps=60)


def game(model: nn.Module, x: Tensor, absent: Tensor | None = None) -> ap.ModelGame:
    reference = ap.removals.zeros() if absent is None else ap.removals.counterfactual(absent)
    return ap.ModelGame(model, x, ap.values.Embedding(), ap.players.columns(x), ap.Blend(reference))


def crossed(model: nn.Module, estimator: object = EXACT, other: nn.Module | None = None):
    left, right = game(model, A, REFERENCES[0]), game(other or model, B, REFERENCES[1])
    return ap.attribute(left, estimator), ap.attribute(right, estimator)


@pytest.mark.parametrize("other", [None, mlp(outputs=3, hidden=5)])
def test_integrated_jacobians_add_up_to_the_change_of_the_similarity(other) -> None:
    """Of one encoder, and of two different ones into the same space; the four end products are
    those of the embeddings.
    """
    model = mlp()
    second = other if other is not None else model
    found = ap.pairs(*crossed(model, other=other))
    with torch.no_grad():
        e_a, r_a = model(A)[0], model(REFERENCES[0])[0]
        e_b, r_b = second(B)[0], second(REFERENCES[1])[0]
    change = e_a @ e_b - e_a @ r_b - r_a @ e_b + r_a @ r_b
    close(found.scores.sum(), change, atol=1e-8)
    assert abs(found.gap) < 1e-8
    ends = torch.stack([e_a @ e_b, e_a @ r_b, r_a @ e_b, r_a @ r_b])
    close(torch.tensor(found.ends, dtype=torch.float64), ends, atol=1e-12)


def test_the_definition_with_jacobians() -> None:
    """A_ij = (a - r)_i [J_a' J_b]_ij (b - r)_j, with J the mean Jacobian along the path."""
    model, levels = mlp(), (torch.arange(400, dtype=torch.float64) + 0.5) / 400

    def mean_jacobian(x: Tensor, r: Tensor) -> Tensor:
        jacobian = torch.func.vmap(torch.func.jacrev(lambda z: model(z[None])[0]))
        return jacobian(r + levels[:, None] * (x - r)).mean(0)

    j_a, j_b = mean_jacobian(A, REFERENCES[0]), mean_jacobian(B, REFERENCES[1])
    truth = (A - REFERENCES[0]).T * (j_a.T @ j_b) * (B - REFERENCES[1])
    found = ap.pairs(*crossed(model))
    close(found.scores, truth.detach(), atol=1e-5)


def test_a_linear_encoder_is_exact_with_one_node() -> None:
    model = seeded(lambda: nn.Linear(6, 4))
    found = ap.pairs(*crossed(model, ap.PathIntegral(steps=1, nodes=ap.Quadrature.MIDPOINT)))
    weight = model.weight.detach()
    moved = (A - REFERENCES[0]).T * (weight.T @ weight) * (B - REFERENCES[1])
    close(found.scores, moved, atol=1e-12)


class Encoder(nn.Module):
    """Words are mixed, and their states averaged by the value."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Embedding(9, 5), nn.Linear(5, 4)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        x = self.embed(ids)
        x = x + x.mean(1, keepdim=True).tanh()
        return {"last_hidden_state": torch.tanh(self.mix(x))}


def test_states_of_the_last_layer_are_dot_products_over_lengths() -> None:
    """Mean pooling of what the players own: A_ij = h_i . h_j / (S_a S_b)."""
    model = seeded(Encoder)
    ids = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6, 7]])
    credits, states = [], []
    for x in ids:
        site = ap.Site("mix", "out")
        owner = torch.arange(x.shape[1])[:, None]
        players = ap.players.Players(
            tuple(f"w{i}" for i in range(x.shape[1])), ("state",) * x.shape[1], {site: owner}
        )
        linear = seeded(Encoder)
        linear.forward = lambda ids, m=linear: {"last_hidden_state": m.mix(m.embed(ids))}
        asked = ap.ModelGame(
            linear, x, ap.values.Embedding(), players, ap.Blend(ap.removals.zeros())
        )
        credits.append(ap.attribute(asked, ap.Gradient()))
        states.append(model.mix(model.embed(x))[0].detach())
    truth = states[0] @ states[1].T / 12
    close(ap.pairs(*credits).scores, truth, atol=1e-12)


def test_the_same_input_twice_is_symmetric_and_swapping_transposes() -> None:
    left, right = crossed(mlp())
    twice = ap.pairs(left, left)
    close(twice.scores, twice.scores.T, atol=1e-12)
    close(ap.pairs(left, right).scores, ap.pairs(right, left).scores.T, atol=1e-12)


def test_players_whose_reference_is_themselves_get_nothing() -> None:
    absent = torch.where(torch.arange(6) < 3, B, REFERENCES[1])
    left, _ = crossed(mlp())
    right = ap.attribute(game(mlp(), B, absent), EXACT)
    found = ap.pairs(left, right)
    close(found.scores[:, :3], torch.zeros(6, 3))
    assert float(found.scores[:, 3:].abs().min()) > 1e-6


def test_bilrp_of_a_bias_free_network_three_ways() -> None:
    """Under epsilon(0) a bias-free ReLU network gives Hessian x product, which is also the
    integrated Jacobian from zero, and its pairs sum to the similarity.
    """
    model = mlp(bias=False, act=nn.ReLU)
    rules = ap.backward.epsilon(0.0)
    lrp = ap.pairs(*(ap.attribute(game(model, x).under(rules), ap.Gradient()) for x in (A, B)))
    path = ap.pairs(*(ap.attribute(game(model, x), EXACT) for x in (A, B)))

    def similarity(a: Tensor, b: Tensor) -> Tensor:
        return (model(a[None]) * model(b[None])).sum()

    hessian = torch.func.jacfwd(torch.func.grad(similarity, 0), 1)(A[0], B[0]).detach()
    close(lrp.scores, A.T * hessian * B, atol=1e-10)
    close(path.scores, lrp.scores, atol=1e-10)
    alike = float(similarity(A[0], B[0]).detach())
    assert lrp.sum() == pytest.approx(alike, abs=1e-10)
    assert lrp.ends.both == pytest.approx(lrp.sum(), abs=1e-10)
    assert lrp.gap is None  # no credit of one output claims it: the table does
    assert "eberle2022" in lrp.cites and "moeller2023" in path.cites


def test_leave_one_out_gives_the_second_difference_of_the_similarity() -> None:
    """S(a, b) - S(a without i, b) - S(a, b without j) + S(without both), by four embeddings."""
    model = mlp()
    found = ap.pairs(*crossed(model, ap.LeaveOneOut()))
    for i, j in ((0, 0), (2, 5)):
        short = []
        for x, r, k in ((A, REFERENCES[0], i), (B, REFERENCES[1], j)):
            moved = x.clone()
            moved[0, k] = r[0, k]
            short.append(moved)
        with torch.no_grad():
            (a, b), (c, d) = (model(A)[0], model(B)[0]), (model(x)[0] for x in short)
        close(found.scores[i, j], a @ b - c @ b - a @ d + c @ d, atol=1e-12)


def test_cosine_keeps_the_norms_of_the_whole_inputs() -> None:
    left, right = crossed(mlp())
    found = ap.pairs(left, right, scale=ap.cosine_scale(left, right))
    cosine = torch.nn.functional.cosine_similarity(mlp()(A), mlp()(B))[0].detach()
    assert found.ends.both == pytest.approx(float(cosine), abs=1e-12)
    assert abs(found.gap) < 1e-8
    close(found.scores, found.scale * ap.pairs(left, right).scores)


def test_either_side_adds_up_and_spans_split_it() -> None:
    found = ap.pairs(*crossed(mlp()))
    for side, other in ((found.a(), found.b), (found.b(), found.a)):
        close(side.gap, torch.tensor(0.0), atol=1e-8)
        assert float(side.sum()) == pytest.approx(found.sum(), abs=1e-12)
        assert float(other().sum()) == pytest.approx(found.sum(), abs=1e-12)
    close(found.a().scores, found.scores.sum(1))
    names = found.players_b.names
    span, rest = found.a(given=names[:2]), found.a(given=range(2, 6))
    close(span.scores + rest.scores, found.a().scores, atol=1e-12)
    assert span.gap is None and span.full is None


def test_errors_cover_where_coordinates_err_together() -> None:
    """Two-sided 95 % intervals of pairs cover at least that, over independent seeds."""
    noise = lambda x: ap.ModelGame(
        mlp(), x, ap.values.Embedding(), ap.players.columns(x), ap.Blend(ap.removals.zeros())
    )
    truth = ap.pairs(*(ap.attribute(noise(x), ap.KernelShap(samples=64)) for x in (A, B)))
    asked = ap.PermutationShapley(orders=16)
    inside = []
    for seed in range(40):
        credits = [ap.attribute(noise(x), asked, seed=2 * seed + k) for k, x in enumerate((A, B))]
        found = ap.pairs(*credits)
        inside.append((found.scores - truth.scores).abs() <= found.reach * found.error)
    covered = float(torch.stack(inside).double().mean())
    assert covered >= 0.94, covered
    assert truth.error.abs().max() == 0


def test_one_side_without_errors_leaves_the_other_sides() -> None:
    left, right = crossed(mlp())
    wobbly = replace(left, error=torch.ones_like(left.scores), freedom=9)
    found = ap.pairs(wobbly, right)
    close(found.error, right.scores.abs().sum(0).expand(6, 6))
    assert found.freedom == 9 and ap.pairs(left, right).error is None


def test_pairs_are_found_named_and_listed() -> None:
    found = ap.pairs(*crossed(mlp()))
    top = found.top(3)
    best = found.scores.abs().flatten().topk(3).values
    close(torch.tensor([abs(c.score) for c in top], dtype=torch.float64), best)
    assert found[top[0].a, top[0].b] == top[0]
    assert found[0, -1].score == float(found.scores[0, 5])
    assert top[0].a in str(found) and "neither" in str(found) and "gap" in str(found)
    frame = found.to_frame()
    assert frame.loc[top[0].a, top[0].b] == top[0].score
    for wrong in ((0, 6), ("nobody", 0)):
        with pytest.raises(ap.BadRequest, match="no player"):
            found[wrong]


def test_what_is_saved_is_what_is_loaded(tmp_path) -> None:
    left, right = crossed(mlp())
    wobbly = replace(left, error=torch.ones_like(left.scores), freedom=9)
    for name, found in {
        "plain": ap.pairs(left, right, 0.5),
        "errors": ap.pairs(wobbly, right),
        "bare": ap.pairs(replace(left, none=None), right),
    }.items():
        back = ap.load(found.save(tmp_path / name))
        assert isinstance(back, ap.Pairs)
        assert torch.equal(back.scores, found.scores)
        assert (back.error is None) == (found.error is None)
        assert same(back.players_a, found.players_a) and same(back.players_b, found.players_b)
        for field in ("ends", "scale", "cost", "provenance", "freedom"):
            assert getattr(back, field) == getattr(found, field)
        assert str(back) == str(found)
    files = sorted(p.name for p in (tmp_path / "plain").iterdir())
    assert files == ["pairs.json", "pairs.safetensors"]


def test_what_cannot_be_multiplied_is_refused() -> None:
    left, right = crossed(mlp())
    with pytest.raises(ap.BadRequest, match=r"Embedding\(\)"):
        ap.pairs(left.pick(0), right)
    with pytest.raises(ap.BadRequest, match="3 and 2 coordinates"):
        ap.pairs(left, replace(right, scores=right.scores[:2]))
    with pytest.raises(ap.BadRequest, match="never asked"):
        ap.cosine_scale(left, replace(right, full=None))
    with pytest.raises(ap.BadRequest, match="no direction"):
        ap.cosine_scale(left, replace(right, full=torch.zeros(3)))


def test_the_drawing_shows_every_pair() -> None:
    pytest.importorskip("matplotlib")
    from tests.report.made import Page

    found = ap.pairs(*crossed(mlp()))
    image = found.plot().axes[0].images[0].get_array()
    assert image.shape[:2] == (6, 6)
    read = Page(found._repr_html_())
    titles = [a["title"] for a in read.all("td")]
    assert len(titles) == 36
    assert any(found.top(1)[0].a in t and found.top(1)[0].b in t for t in titles)
