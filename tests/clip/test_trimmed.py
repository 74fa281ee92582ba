"""A batch of texts cut and without repeats: the loss and every gradient of the whole forward."""

import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor, nn

from pipeline.clip.losses import info_nce, positives
from pipeline.clip.model import Clip
from pipeline.clip.trimmed import encode_text, trimmed

CONTEXT = 32
END = 99
VISION = {"image_size": 8, "layers": 1, "width": 16, "patch_size": 4, "head_width": 8}
TEXT = {"context_length": CONTEXT, "vocab_size": 100, "width": 16, "heads": 2, "layers": 2}

CAUSAL = {
    "clip": (open_clip.CLIP, {}),
    "clip, end by id": (open_clip.CLIP, {"pool_type": "eos", "eos_id": END}),
    "custom": (open_clip.CustomTextCLIP, {}),
    "custom, end by id": (open_clip.CustomTextCLIP, {"pool_type": "eos", "eos_id": END}),
}
WHOLE = {
    "siglip": (open_clip.CustomTextCLIP, {"no_causal_mask": True, "pool_type": "last"}),
    "no mask": (open_clip.CustomTextCLIP, {"no_causal_mask": True}),
    "appended": (open_clip.CustomTextCLIP, {"embed_cls": True}),
    "first": (open_clip.CustomTextCLIP, {"pool_type": "first"}),
}
"""Towers that look beyond the end token, or don't read out there."""


def model_of(kind: type[nn.Module], text: dict[str, object]) -> nn.Module:
    torch.manual_seed(0)
    return kind(12, dict(VISION), TEXT | text).double()


def texts(*lengths: int) -> Tensor:
    """A text of each length, its end token included; those of equal length are the same text."""
    tokens = torch.zeros(len(lengths), CONTEXT, dtype=torch.int64)
    for row, length in zip(tokens, lengths, strict=True):
        words = np.random.default_rng(length).integers(1, END, size=length - 1)
        row[: length - 1] = torch.from_numpy(words)
        row[length - 1] = END
    return tokens


def loss_and_gradients(model: nn.Module, tokens: Tensor, *, cut: bool) -> dict[str, Tensor]:
    pixels = torch.randn(
        len(tokens), 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    image = model.encode_image(pixels, normalize=True)
    text = (
        encode_text(model, trimmed(model, tokens))
        if cut
        else model.encode_text(tokens, normalize=True)
    )
    captions = torch.unique(tokens, dim=0, return_inverse=True)[1]
    mask = positives(torch.arange(len(tokens)), captions)
    loss = info_nce(image, text, model.logit_scale.exp(), mask)
    names, weights = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, weights)
    return {"loss": loss.detach(), **dict(zip(names, gradients, strict=True))}


@pytest.mark.parametrize("lengths", [(5, 9, 5, 3, 9, 5), (2, 3, 4), (32, 8, 8), (31, 32), (4, 4)])
@pytest.mark.parametrize(("kind", "text"), CAUSAL.values(), ids=CAUSAL)
def test_loss_and_every_gradient_are_those_of_the_whole_forward(kind, text, lengths) -> None:
    model = model_of(kind, text)
    found = loss_and_gradients(model, texts(*lengths), cut=True)
    expected = loss_and_gradients(model, texts(*lengths), cut=False)
    assert any(name.endswith("positional_embedding") for name in expected)
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=0, atol=1e-10), name


@pytest.mark.parametrize(("kind", "text"), CAUSAL.values(), ids=CAUSAL)
def test_a_causal_tower_reads_distinct_texts_up_to_the_longest(kind, text) -> None:
    found = trimmed(model_of(kind, text), texts(5, 9, 5, 3, 9, 5))
    assert found.tokens.shape == (3, 10)
    assert torch.equal(found.tokens[found.which], texts(5, 9, 5, 3, 9, 5)[:, :10])


@pytest.mark.parametrize(("kind", "text"), WHOLE.values(), ids=WHOLE)
def test_any_other_tower_reads_all_of_distinct_texts(kind, text) -> None:
    model, tokens = model_of(kind, text), texts(5, 9, 5, 3)
    found = trimmed(model, tokens)
    assert found.tokens.shape == (3, CONTEXT)
    assert torch.allclose(
        encode_text(model, found), model.encode_text(tokens, normalize=True), rtol=0, atol=1e-12
    )


def test_one_text_many_times_is_one_row() -> None:
    model = model_of(*CAUSAL["clip"])
    assert trimmed(model, texts(7, 7, 7, 7)).tokens.shape == (1, 8)


def test_a_model_of_its_own_tokenizer_is_cut_to_the_longest_caption(tiny: Clip) -> None:
    tokens = tiny.tokenizer(["a red square", "a red square", "two blue circles on a table"])
    found = trimmed(tiny.model, tokens)
    assert found.tokens.shape == (2, 8)  # start, six words, end
    with torch.no_grad():
        whole = tiny.model.encode_text(tokens, normalize=True)
        assert torch.allclose(encode_text(tiny.model, found), whole, atol=1e-6)


def test_checkpointed_activations_change_no_gradient() -> None:
    model, tokens = model_of(*CAUSAL["clip"]), texts(5, 9, 5)
    plain = loss_and_gradients(model, tokens, cut=True)
    model.set_grad_checkpointing()
    model.train()
    found = loss_and_gradients(model, tokens, cut=True)
    assert all(torch.equal(found[name], value) for name, value in plain.items())


def test_a_step_later_the_weights_of_then_are_read() -> None:
    model, tokens = model_of(*CAUSAL["custom"]), texts(5, 9, 5)
    first = loss_and_gradients(model, tokens, cut=True)["loss"]
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    second = loss_and_gradients(model, tokens, cut=True)
    assert second["loss"] != first
    expected = loss_and_gradients(model, tokens, cut=False)["loss"]
    assert abs(second["loss"] - expected) < 1e-10


def test_even_texts_come_in_few_shapes_and_read_the_same() -> None:
    model = model_of(open_clip.CLIP, {})
    with torch.no_grad():
        for lengths, width in (((3, 5, 5), 16), ((3, 17), 32), ((32, 4), 32)):
            tokens = texts(*lengths)
            even = trimmed(model, tokens, even=True)
            assert even.tokens.shape == (len(lengths), width)
            found, wanted = encode_text(model, even), model.encode_text(tokens, normalize=True)
            assert (found - wanted).abs().max() < 1e-12
