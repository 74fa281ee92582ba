"""Low-rank updates against ones built by hand, on the towers that OpenCLIP has."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.clip import model as clip_model
from pipeline.clip.adapters import Target, add, merge, trainable
from pipeline.clip.layers import Tower, layers
from pipeline.clip.model import Clip
from pipeline.clip.towers import shortened
from pipeline.errors import ConfigError, ModelError
from tests import small

ALL: tuple[Target, ...] = ("query", "key", "value", "output", "mlp")
BLOCK = "transformer.resblocks.1"

RESNET = {"layers": (1, 1, 1, 1), "patch_size": None, "width": 8, "image_size": 32}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "vit": small.vit,
    "custom text": lambda: small.vit(custom=True),
    "resnet": lambda: small.vit(vision=RESNET),
    "timm": small.timm_vit,
    "custom blocks": lambda: small.vit(vision={"qk_norm": True}, custom=True, qk_norm=True),
    "attentional pool": lambda: small.vit(
        vision={"attentional_pool": True, "attn_pooler_heads": 2}
    ),
}


def logits(model: nn.Module, side: int | None = None) -> Tensor:
    side = side or (160 if hasattr(model.visual, "trunk") else 32)
    pixels, tokens = small.inputs(side=side)
    image, text, scale = model(pixels.to(model.logit_scale.dtype), tokens)[:3]
    return scale * image @ text.T


def moved(model: nn.Module, *, targets: tuple[Target, ...] = ALL, rank: int = 2) -> list[str]:
    """Add updates, and give B values as training would."""
    names = add(model, rank=rank, alpha=8, targets=targets, from_depth=0, seed=0)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".B"):
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return names


def signature(model: nn.Module) -> list[object]:
    state = [(name, tuple(w.shape), w.dtype) for name, w in model.state_dict().items()]
    order = [name for name, _ in model.named_parameters()]
    return [state, order, [(name, type(module)) for name, module in model.named_modules()]]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_an_update_changes_no_bit_at_first(kind: str, training: bool, grad: bool) -> None:
    torch.manual_seed(0)
    model = MODELS[kind]().train(training)
    twin = copy.deepcopy(model)
    add(model, rank=2, alpha=8, targets=ALL, from_depth=0, seed=0)
    with torch.set_grad_enabled(grad):
        assert torch.equal(logits(model), logits(twin))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_merging_keeps_the_logits_and_leaves_a_plain_model(
    kind: str, dtype: torch.dtype, bound: float
) -> None:
    model = MODELS[kind]().to(dtype)
    plain, base = signature(model), logits(model).detach()
    identities = {name: id(w) for name, w in model.named_parameters()}
    moved(model)
    for training in (False, True):
        with torch.no_grad():
            before = logits(model.train(training))
        assert signature(model) != plain
        merged = copy.deepcopy(model)
        merge(merged)
        with torch.no_grad():
            after = logits(merged)
        assert (after - before).abs().max() <= bound
        assert (after - base).abs().max() > 1000 * bound
        assert signature(merged) == plain
        fresh = MODELS[kind]().to(dtype).train(training)
        fresh.load_state_dict(merged.state_dict())
        with torch.no_grad():
            assert torch.equal(logits(fresh), after)
        # The copy is merged; what it was copied from still has its updates.
        with torch.no_grad():
            assert torch.equal(logits(model), before)
    merge(model)
    assert signature(model) == plain
    assert {name: id(w) for name, w in model.named_parameters()} == identities


def by_hand(model: nn.Module, name: str, *, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """W + α/r·BA of a packed weight, with A and B as leaves of their own."""
    update = model.get_submodule(f"{BLOCK}.attn.parametrizations.{name}")
    a = update[0].A.detach().clone().requires_grad_()
    b = update[0].B.detach().clone().requires_grad_()
    change = torch.cat([b_NR @ a_RD for b_NR, a_RD in zip(b, a, strict=True)])
    return update.original + scale * change, a, b


@pytest.mark.parametrize("training", [False, True])
def test_attention_is_that_of_a_weight_built_by_hand(training: bool) -> None:
    model = small.vit().double().train(training)
    plain = copy.deepcopy(model.get_submodule(f"{BLOCK}.attn"))
    moved(model, targets=("query", "key", "value"))
    attention = model.get_submodule(f"{BLOCK}.attn")
    assert isinstance(attention, nn.MultiheadAttention)
    x = torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mask = model.attn_mask.double()
    weight, a, b = by_hand(model, "in_proj_weight", scale=8 / 2)

    def run(module: nn.Module) -> Tensor:
        out: Tensor = module(x, x, x, need_weights=False, attn_mask=mask)[0]
        return out

    expected = torch.func.functional_call(
        plain, {"in_proj_weight": weight}, (x, x, x), {"need_weights": False, "attn_mask": mask}
    )[0]
    found = run(attention)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    assert (found - run(plain)).abs().max() > 0.01
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(4)).double()
    (found * upstream).sum().backward()
    (expected * upstream).sum().backward()
    update = attention.parametrizations.in_proj_weight[0]
    for own, hand in ((update.A.grad, a.grad), (update.B.grad, b.grad)):
        assert own.shape[0] == 3
        assert own.abs().amax(dim=(1, 2)).min() > 1e-4
        assert torch.allclose(own, hand, rtol=0, atol=1e-12)


def test_the_fast_path_of_attention_takes_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small.vit()
    plain = copy.deepcopy(model.get_submodule(f"{BLOCK}.attn"))
    moved(model, targets=("query", "key", "value", "output"))
    attention = model.get_submodule(f"{BLOCK}.attn")
    x = torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(3))
    fast, taken = torch._native_multi_head_attention, []
    monkeypatch.setattr(
        torch, "_native_multi_head_attention", lambda *args: taken.append(1) or fast(*args)
    )
    with torch.no_grad():
        found = attention(x, x, x, need_weights=False)[0]
        assert len(taken) == 1
        assert (found - plain(x, x, x, need_weights=False)[0]).abs().max() > 0.01
    slow = attention(x, x, x, need_weights=False)[0]  # gradients are on: not the fast path
    assert len(taken) == 2
    assert slow.requires_grad
    assert torch.allclose(found, slow, atol=1e-6)


def test_projections_that_are_no_target_stay_as_they_were() -> None:
    model = small.vit()
    base = model.get_parameter(f"{BLOCK}.attn.in_proj_weight").detach().clone()
    moved(model, targets=("query", "value"))
    attention = model.get_submodule(f"{BLOCK}.attn")
    query, key, value = (attention.in_proj_weight - base).detach().split(16)
    assert torch.equal(key, torch.zeros_like(key))
    update = attention.parametrizations.in_proj_weight[0]
    assert torch.allclose(query, 4 * (update.B[0] @ update.A[0]), atol=1e-6)
    assert torch.allclose(value, 4 * (update.B[1] @ update.A[1]), atol=1e-6)
    assert update.A.shape == (2, 2, 16)


@pytest.mark.parametrize("kind", MODELS)
def test_gradients_reach_every_update_and_nothing_else(kind: str) -> None:
    model = MODELS[kind]().train()
    names = moved(model)
    F.cross_entropy(logits(model), torch.arange(4)).backward()
    trains = {name for name, w in model.named_parameters() if w.requires_grad}
    reached = {n for n, w in model.named_parameters() if w.grad is not None and w.grad.any()}
    updates = {n for n, _ in model.named_parameters() if n.endswith((".A", ".B"))}
    assert len(updates) == 2 * len(names)
    assert trains == reached == updates | {"logit_scale"}


def test_what_trains_is_counted_on_the_meta_device() -> None:
    model = clip_model.outline("ViT-B-32")
    names = add(model, rank=8, alpha=16, targets=("query", "value"), from_depth=1, seed=0)
    assert len(names) == 24
    # 2 projections × (A: 8·D + B: D·8), 12 blocks of width 768 and 12 of 512; and the logit scale.
    assert trainable(model) == 12 * 2 * 16 * (768 + 512) + 1


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (
            "resnet",
            {"attnpool.q_proj", "attnpool.k_proj", "attnpool.v_proj", "attnpool.c_proj"},
        ),
        (
            "timm",
            {
                "trunk.blocks.0.attn.qkv", "trunk.blocks.0.attn.proj", "trunk.blocks.0.mlp.fc1",
                "trunk.blocks.0.mlp.fc2", "trunk.attn_pool.q", "trunk.attn_pool.kv",
                "trunk.attn_pool.proj", "trunk.attn_pool.mlp.fc1", "trunk.attn_pool.mlp.fc2",
            },
        ),
        (
            "vit",
            {
                f"transformer.resblocks.{i}.{name}"
                for i in (0, 1)
                for name in ("attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
            },
        ),
    ],
)  # fmt: skip
def test_targets_are_found_by_what_they_do(kind: str, found: set[str]) -> None:
    model = MODELS[kind]()
    names = add(model, rank=2, alpha=2, targets=ALL, from_depth=0, seed=0)
    image = {n.removeprefix("visual.") for n in names if n.startswith("visual.")}
    plain = {n.removesuffix(".weight").removesuffix("_weight") for n in image}
    assert {
        name for name in plain if not name.startswith("trunk.blocks.") or ".0." in name
    } == found


def test_a_depth_to_begin_at_holds_in_each_tower(tiny: Clip) -> None:
    names = add(tiny.model, rank=2, alpha=2, targets=ALL, from_depth=2, seed=0)
    of_text = {name for name in names if not name.startswith("visual.")}
    assert of_text
    assert all(name.startswith("transformer.resblocks.1.") for name in of_text)
    assert {name for name in names if name.startswith("visual.")} == {
        f"visual.attnpool.{x}_proj.weight" for x in "qkvc"
    }
    placed = layers(tiny.model)
    update = "transformer.resblocks.1.attn.parametrizations.in_proj_weight.0.A"
    assert placed[update] == (of := placed["transformer.resblocks.1.ln_1.weight"])
    assert of.depth == 2


def test_the_seed_alone_decides_what_is_drawn() -> None:
    def drawn(seed: int, targets: tuple[Target, ...]) -> dict[str, Tensor]:
        model = small.vit()
        torch.rand(seed + 1)  # the global generator is somewhere else each time
        before = torch.get_rng_state()
        add(model, rank=2, alpha=2, targets=targets, from_depth=0, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        return {n: w.detach() for n, w in model.named_parameters() if n.endswith(".A")}

    first, again, other = drawn(0, ALL), drawn(0, ALL), drawn(1, ALL)
    assert first.keys() == other.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    assert len({tuple(a.flatten()[:4].tolist()) for a in first.values()}) == len(first)
    mlp = drawn(0, ("mlp",))
    assert mlp
    assert all(torch.equal(mlp[name], first[name]) for name in mlp)
    for a in first.values():
        assert 0.7 / a.shape[-1] ** 0.5 < a.abs().max() <= 1 / a.shape[-1] ** 0.5


def test_under_autocast_the_sum_is_made_in_full_precision() -> None:
    model = small.vit().train()
    moved(model)
    attention = model.get_submodule(f"{BLOCK}.attn")
    exact = attention.in_proj_weight.detach()
    full = logits(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(attention.in_proj_weight, exact)
        half = logits(model)
    assert (half.float() - full).abs().max() < 0.5
    assert (half.float() - full).abs().max() > 0
    half.float().square().mean().backward()
    grads = [w.grad for n, w in model.named_parameters() if n.endswith((".A", ".B"))]
    assert all(g is not None and g.dtype == torch.float32 and g.isfinite().all() for g in grads)


@pytest.mark.parametrize("custom", [False, True])
def test_ashortened_text_tower_has_the_updates_too(custom: bool) -> None:
    model = small.vit(custom=custom)
    _, tokens = small.inputs()
    tokens[:, 4:] = 0
    tokens[:, 3] = 49
    base = model.encode_text(tokens)
    moved(model)
    short = shortened(model, 4)
    assert short is not model
    expected = model.encode_text(tokens)
    found = short.encode_text(tokens[:, :4])
    assert torch.allclose(found, expected, atol=1e-6)
    assert (expected - base).abs().max() > 0.01
    found.square().sum().backward()
    prefix = "text." if custom else ""
    name = f"{prefix}{BLOCK}.attn.parametrizations.in_proj_weight"
    assert model.get_submodule(name)[0].B.grad.any()
    merge(model)
    assert torch.allclose(short.encode_text(tokens[:, :4]), expected, atol=1e-6)


def test_a_copy_in_half_precision_still_has_its_updates() -> None:
    model = small.vit()
    moved(model)
    half = copy.deepcopy(model).to(torch.bfloat16)
    with torch.no_grad():
        difference = (logits(half).float() - logits(model)).abs().max()
    assert difference < 0.5


def test_updates_are_saved_and_loaded_like_any_weight() -> None:
    model, other = small.vit(), small.vit()
    moved(model)
    add(other, rank=2, alpha=8, targets=ALL, from_depth=0, seed=9)
    other.load_state_dict(model.state_dict())
    assert torch.equal(logits(model), logits(other))


def test_a_merged_model_takes_updates_again() -> None:
    model = small.vit()
    moved(model)
    with pytest.raises(ValueError, match="merge them before"):
        add(model, rank=2, alpha=8, targets=ALL, from_depth=0, seed=0)
    merge(model)
    once = logits(model).detach()
    moved(model)
    assert (logits(model) - once).abs().max() > 0.01


@pytest.mark.parametrize("rank", [17, 0])
def test_a_rank_that_does_not_fit_is_refused(rank: int) -> None:
    model = small.vit()
    message = (
        rf"lora\.rank is {rank}, and .*in_proj_weight projects 16 to 16: set a rank of 1 to 16"
    )
    with pytest.raises(ConfigError, match=message):
        add(model, rank=rank, alpha=1, targets=("query",), from_depth=0, seed=0)
    assert all(weight.requires_grad for weight in model.parameters())


def test_targets_that_are_nowhere_are_answered_with_what_there_is(tiny: Clip) -> None:
    message = (
        r"lora\.targets is mlp from depth 3 on.*image: query, key, value, output at depths 5 to 5; "
        r"text: query, key, value, output, mlp at depths 1 to 2"
    )
    with pytest.raises(ConfigError, match=message):
        add(tiny.model, rank=2, alpha=1, targets=("mlp",), from_depth=3, seed=0)


def test_a_depth_in_a_tower_that_shows_none_is_refused() -> None:
    model = small.vit()
    model.visual = nn.ModuleDict({"stem": nn.Linear(2, 2)})
    with pytest.raises(ModelError, match=r"lora\.from_depth needs the blocks of the image tower"):
        add(model, rank=2, alpha=1, targets=ALL, from_depth=1, seed=0)
    assert add(model, rank=2, alpha=1, targets=ALL, from_depth=0, seed=0)


def named(path: str) -> nn.Module:
    root = nn.Module()
    here = root
    *above, last = path.split(".")
    for name in above:
        here.add_module(name, nn.Module())
        here = here.get_submodule(name)
    here.add_module(last, nn.Linear(4, 4))
    return root


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("attention.self.query", "query"), ("attention.output.dense", "output"),
        ("intermediate.dense", "mlp"), ("output.dense", "mlp"), ("pooler.dense", None),
        ("proj", None), ("SelfAttention.k", "key"), ("DenseReluDense.wi_1", "mlp"),
    ],
)  # fmt: skip
def test_hugging_face_names_are_known(path: str, target: Target | None) -> None:
    tower: Tower = "text"
    model = small.vit(custom=True)
    model.text = named(path)
    found = [
        t for t in ALL
        if f"text.{path}.weight"
        in add(copy.deepcopy(model), rank=1, alpha=1, targets=(t,), from_depth=0, seed=0)
    ]  # fmt: skip
    assert found == ([target] if target else [])
    assert layers(model)[f"text.{path}.weight"].tower == tower
