"""Mixed precision, flat parameters, compilation: what the fast engine adds to the mathematics."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from engine_cases import CASES, batch_of, build, tiny
from tolerances import EPS, HALF_ROUNDINGS, SAME_DTYPE_FACTOR

from fastinfogan.config import RunConfig
from fastinfogan.engine.flat import FlatAdam
from fastinfogan.engine.loss_scale import FIRST_SCALE, LossScale
from fastinfogan.engine.step import FastEngine
from fastinfogan.errors import UserError
from fastinfogan.model.networks import Generator
from fastinfogan.model.reference import Batch, ReferenceEngine
from fastinfogan.plan import half_type, make_plan
from fastinfogan.training.checkpoint import engine_state, restore_engine_state

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("narrow_presets")


def with_amp(config, dtype):
    name = str(dtype).removeprefix("torch.")
    return replace(config, run=replace(config.run, amp=True, amp_dtype=name))


def half_batch(config, iteration, dtype):
    """What the engine consumes with --amp: latents and real images come in half precision."""
    batch = batch_of(config, iteration, torch.float32)
    inputs = [i._replace(latents=i.latents.to(dtype)) for i in (batch.inputs_d, batch.inputs_g)]
    copy = None if batch.copy is None else batch.copy.to(dtype)
    return Batch(batch.real.to(dtype), *inputs, copy, batch.fill)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "case",
    ["mnist", "simultaneous", "svhn", "separate-q", "both", "simultaneous-both", "contrastive",
     "simultaneous-contrastive"],
)  # fmt: skip
def test_an_iteration_in_half_precision_is_as_good_as_autocast(case, dtype):
    """Losses as near to float64's as the plain reference's under torch.autocast are."""
    config = CASES[case]
    batch = batch_of(config, 0, torch.float64)
    exact = build(ReferenceEngine, config, torch.float64).step(batch)
    reference = build(ReferenceEngine, config, torch.float32)
    with torch.autocast("cpu", dtype):
        plain = reference.step(batch_of(config, 0, torch.float32))
    ours = build(FastEngine, with_amp(config, dtype), torch.float32).step(
        half_batch(config, 0, dtype)
    )
    for name in ("d_loss", "nll", "consistency", "contrastive"):  # before any update
        if getattr(exact, name) is None:
            continue
        right = getattr(exact, name)
        error, allowed = ((getattr(x, name) - right).abs().max() for x in (ours, plain))
        # A lucky reference leaves the other the rounding of a value per layer.
        spare = HALF_ROUNDINGS * EPS[dtype] * right.abs().max()
        assert error <= SAME_DTYPE_FACTOR * allowed + spare, (name, error, allowed)


def test_twins_share_memory_and_are_kept_up_to_date():
    """Weights of the half twin are the rounded ones; batchnorm's are the very same tensors."""
    config = with_amp(tiny("mnist"), torch.bfloat16)
    engine = build(FastEngine, config, torch.float32)
    engine.step(half_batch(config, 0, torch.bfloat16))
    for adam, network in (
        (engine.adam_g, engine.generator),
        (engine.adam_d, engine.discriminator),
    ):
        twin = dict(adam.compute.named_parameters())
        assert list(twin) == [name for name, _ in network.named_parameters()]
        for name, parameter in network.named_parameters():
            if ".norm." in name:
                assert twin[name] is parameter
            else:
                assert twin[name].dtype == torch.bfloat16
                assert torch.equal(twin[name], parameter.to(torch.bfloat16))
        statistics = dict(adam.compute.named_buffers())
        assert all(statistics[name] is b for name, b in network.named_buffers())


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_a_continued_engine_takes_the_same_steps(dtype):
    """State saved after three iterations and loaded into a fresh engine: the same bits after six.

    Loading has to refresh what is derived from the weights: the half-precision copy.
    """
    config = tiny("mnist") if dtype is None else with_amp(tiny("mnist"), dtype)
    batch = (
        (lambda i: batch_of(config, i, torch.float32))
        if dtype is None
        else (lambda i: half_batch(config, i, dtype))
    )
    whole = build(FastEngine, config, torch.float32)
    for i in range(3):
        whole.step(batch(i))
    half_way = engine_state(whole)
    second = build(FastEngine, config, torch.float32)
    restore_engine_state(second, half_way)
    for i in range(3, 6):
        whole.step(batch(i))
        second.step(batch(i))
    ends = engine_state(whole), engine_state(second)
    assert ends[0].keys() == ends[1].keys()
    assert ("loss_scale" in ends[0]) == (dtype == torch.float16)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_an_overflow_skips_the_update_and_halves_the_scale():
    """Gradients beyond float16: no weight, moment or step moves. (Running statistics do.)"""
    config = with_amp(tiny("mnist"), torch.float16)
    engine = build(FastEngine, config, torch.float32)
    largest = 2.0**100  # of a loss of order 1: far beyond 65,504
    engine.loss_scale.restore(torch.tensor([largest, 0.0]))
    before = engine_state(engine)
    batch = half_batch(config, 0, torch.float16)
    engine.step(batch)
    after = engine_state(engine)
    assert after["loss_scale"].tolist() == [largest / 2, 0.0]
    kept = [name for name in before if "running" not in name and name != "loss_scale"]
    assert all(torch.equal(after[name], before[name]) for name in kept)
    engine.loss_scale.restore(torch.tensor([1.0, 0.0]))
    engine.step(batch)
    moved = engine_state(engine)
    assert moved["loss_scale"].tolist() == [1.0, 1.0]
    assert not any(torch.equal(moved[name], before[name]) for name in kept if "weight" in name)


def test_a_checkpoint_of_another_half_type_is_refused():
    config = tiny("mnist")
    states = {
        dtype: engine_state(build(FastEngine, with_amp(config, dtype), torch.float32))
        for dtype in (torch.bfloat16, torch.float16)
    }
    for saved, here in ((torch.bfloat16, torch.float16), (torch.float16, torch.bfloat16)):
        engine = build(FastEngine, with_amp(config, here), torch.float32)
        with pytest.raises(UserError, match="--amp: this run was trained in .*float16"):
            restore_engine_state(engine, states[saved])


def test_loss_scale_does_not_change_what_is_learned():
    """Scaled by 2^16 and back, gradients are off by no more than unscaled ones under autocast."""
    config = with_amp(tiny("mnist-mlp"), torch.float16)
    engine = build(FastEngine, config, torch.float32)
    engine.step(half_batch(config, 0, torch.float16))
    exact = build(ReferenceEngine, config, torch.float64)
    exact.step(batch_of(config, 0, torch.float64))
    plain = build(ReferenceEngine, config, torch.float32)
    with torch.autocast("cpu", torch.float16):
        plain.step(batch_of(config, 0, torch.float32))
    truth, unscaled = (e.discriminator.trunk[0].op.weight.grad for e in (exact, plain))
    scaled = engine.adam_d.compute.trunk[0].op.weight.grad.double() / FIRST_SCALE
    # A lucky reference leaves the other the rounding of the gradient.
    spare = EPS[torch.float16] * truth.norm()
    allowed = SAME_DTYPE_FACTOR * (unscaled - truth).norm() + spare
    assert (scaled - truth).norm() <= allowed


def test_loss_scale_doubles_after_a_calm_stretch(monkeypatch):
    """GradScaler's rule: 2,000 iterations without an overflow double the factor."""
    monkeypatch.setattr("fastinfogan.engine.loss_scale.GROWTH_INTERVAL", 3)
    scale = LossScale(CPU)
    for _ in range(3):
        scale.update()
    assert scale.value.item() == 2 * FIRST_SCALE
    assert scale.inverse.item() == 0.5 / FIRST_SCALE


def test_parameters_become_views_of_one_buffer():
    """Each keeps its values and its memory format, and training moves the buffer itself."""
    config = tiny("mnist")
    network = Generator(config.architecture, config.spec)
    before = {name: (p.clone(), p.stride()) for name, p in network.named_parameters()}
    adam = FlatAdam(network, 1e-3, (0.5, 0.999))
    storages = set()
    for name, parameter in network.named_parameters():
        values, stride = before[name]
        assert torch.equal(parameter, values)
        assert parameter.stride() == stride
        storages.add(parameter.untyped_storage().data_ptr())
    assert len(storages) == 1
    assert adam.compute is network


def test_amp_names_what_is_missing(monkeypatch):
    monkeypatch.setattr("fastinfogan.device.cpu_has_bfloat16", lambda: False)
    with pytest.raises(UserError, match=r"--amp: this CPU has no bfloat16 .*--amp-dtype bfloat16"):
        make_plan(RunConfig(amp=True, device="cpu"))
    emulated = make_plan(RunConfig(amp=True, amp_dtype="bfloat16", device="cpu"))
    assert (emulated.half, emulated.emulated) == (torch.bfloat16, True)
    assert make_plan(RunConfig(device="cpu")).half is None
    monkeypatch.setattr("fastinfogan.device.cpu_has_bfloat16", lambda: True)
    native = make_plan(RunConfig(amp=True, device="cpu"))
    assert (native.half, native.emulated) == (torch.bfloat16, False)


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)]
)
def test_a_gpu_gets_bfloat16_from_ampere_on(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert half_type(torch.device("cuda")) == dtype


@pytest.mark.slow
def test_compiled_iterations_equal_eager_ones_and_compile_once():
    """Losses agree to float32 rounding; after two iterations nothing is compiled again."""
    config = tiny("mnist")
    compiled = build(
        FastEngine, replace(config, run=replace(config.run, compile=True)), torch.float32
    )
    eager = build(FastEngine, config, torch.float32)
    exact = build(ReferenceEngine, config, torch.float64)
    right = exact.step(batch_of(config, 0, torch.float64))
    for name, ours, theirs in zip(
        right._fields,
        compiled.step(batch_of(config, 0, torch.float32)),
        eager.step(batch_of(config, 0, torch.float32)),
        strict=True,
    ):
        truth = getattr(right, name)
        if name in ("consistency", "contrastive"):  # off in the paper's presets
            assert ours is theirs is truth is None
            continue
        allowed = (theirs - truth).abs().max() + EPS[torch.float32] * truth.abs().max()
        # g_loss comes after D's first Adam step, which turns rounding into whole steps of lr.
        if name != "g_loss":
            assert (ours - truth).abs().max() <= 2 * SAME_DTYPE_FACTOR * allowed, name
    compiled.step(batch_of(config, 1, torch.float32))
    with torch.compiler.set_stance("fail_on_recompile"):
        for i in range(2, 5):
            compiled.step(batch_of(config, i, torch.float32))
