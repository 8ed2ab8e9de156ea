"""Resolving: fill every None from the preset and the dataset, and check every value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastinfogan.config.jitter import parse_jitter
from fastinfogan.config.layers import Shape
from fastinfogan.config.presets import FAMILIES, PRESETS, architecture_of
from fastinfogan.config.tree import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from fastinfogan.config.types import well_typed
from fastinfogan.errors import UserError
from fastinfogan.kernels.codes import MAX_CODES
from fastinfogan.model.latent_spec import make_spec
from fastinfogan.similar import meant


def resolve(config: TrainConfig) -> TrainConfig:
    """Fill every None from the preset and the dataset, and check every value.

    Raises:
        UserError: a value that can't work, naming its flag.
    """
    config = well_typed(TrainConfig(config.data, config.model, config.optim, config.run))
    _check_ranges(config.optim, config.run)
    from fastinfogan.data import find_dataset  # numpy and more, which a wrong number does without

    dataset = find_dataset(config.data.dataset)
    name = dataset.default_preset if config.model.preset is None else config.model.preset
    if name not in PRESETS:
        close = meant(name, PRESETS)
        hint = "" if close is None else f"; did you mean {close}?"
        raise UserError(f"--preset {name!r} is unknown; choose one of {', '.join(PRESETS)}{hint}")
    data = config.data
    dataset.check_shape(data.image_size, data.channels)
    dataset.check_stretch(data.stretch)
    usual = PRESETS[name].architecture.image_shape
    shape = dataset.shape(data.image_size)
    if name in FAMILIES:
        if shape is not None and not _fits(name, shape):
            raise UserError(
                f"--preset {name} isn't built for {_times(shape)} images, which --dataset "
                f"{dataset.name} has; {_fitting(shape)}"
            )
        channels, size, _ = shape or usual
        data = _filled(data, image_size=size, channels=channels)
    elif data.image_size is None:
        shape = dataset.shape(usual[1])  # if it has that size
    architecture = architecture_of(name, data.image_size, data.channels)
    channels, size = architecture.image_shape[0], architecture.image_shape[1]
    if shape is None:  # a folder's images become whatever size is asked for
        for flag, given, wanted in (
            ("--image-size", data.image_size, size), ("--channels", data.channels, channels),
        ):  # fmt: skip
            if given not in (None, wanted):
                raise UserError(f"{flag} {given}: preset {name} works on {wanted}")
        data = replace(data, image_size=size, channels=channels)
    elif shape != architecture.image_shape:
        raise UserError(
            f"--preset {name} works on {_times(architecture.image_shape)} images, but --dataset "
            f"{dataset.name} has {_times(shape)}; {_fitting(shape)}"
        )
    own = preset_config(name)
    model = _filled(config.model, **vars(own.model))
    optim = config.optim
    if dataset.iterations is not None:
        optim = _filled(optim, iterations=dataset.iterations)
    spec = make_spec(model.noise, model.codes)
    if not spec.regularized:
        raise UserError(f"--codes {model.codes!r}: at least one code must not be :free")
    discrete = any(spec.codes[i].is_discrete for i in spec.regularized)
    if optim.objective == "gan" or not discrete:  # a preset's consistency has nothing to act on
        optim = _filled(optim, consistency=0.0)
    if optim.objective == "gan" or len(spec.continuous) < 2:  # nor have its regularisers
        optim = _filled(optim, contrastive=0.0, orthogonal=0.0)
    weight = own.optim.contrastive if optim.contrastive is None else optim.contrastive
    if not weight:  # nor a preset's gap
        optim = _filled(optim, gap_until=0)
    optim = _filled(optim, **vars(own.optim))
    # One spelling of each, so that runs compare.
    model = replace(model, codes=str(spec))
    optim = replace(optim, jitter=str(parse_jitter(optim.jitter)))
    resolved = TrainConfig(data, model, optim, config.run)
    _check_together(resolved)
    return resolved


def preset_config(name: str) -> TrainConfig:
    """The resolved configuration of a preset, on no dataset in particular."""
    preset = PRESETS[name]
    channels, size, _ = preset.architecture.image_shape
    return TrainConfig(
        data=DataConfig(image_size=size, channels=channels),
        model=ModelConfig(name, preset.codes, preset.noise, preset.separate_q),
        optim=OptimConfig(
            iterations=preset.iterations,
            batch_size=preset.batch_size,
            lr_d=preset.lr_d,
            lr_g=preset.lr_g,
            decay=preset.decay,
            lambda_disc=preset.lambda_disc,
            lambda_cont=preset.lambda_cont,
            consistency=preset.consistency,
            augment=preset.augment,
            jitter=preset.jitter,
            average=preset.average,
            contrastive=preset.contrastive,
            gap_until=preset.gap_until,
            orthogonal=preset.orthogonal,
        ),
    )


def _filled(config: Any, **defaults: Any) -> Any:
    """``config`` with the given defaults in place of its Nones."""
    missing = {key: value for key, value in defaults.items() if getattr(config, key) is None}
    return replace(config, **missing)


def _check_ranges(optim: OptimConfig, run: RunConfig) -> None:
    """Refuse a value that works nowhere; what isn't given is the preset's, and works."""
    most = 10**9 - 1
    limits = [  # flag, value, fits, what works
        ("--iterations", optim.iterations, lambda n: 1 <= n <= most, f"1 to {most} works"),
        (
            "--batch-size", optim.batch_size, lambda n: 2 <= n <= most,
            f"2 or more (batchnorm) works, up to {most}",
        ),
        *(
            (flag, rate, lambda x: 0 < x < 1, "above 0 and below 1 works")
            for flag, rate in (("--lr-d", optim.lr_d), ("--lr-g", optim.lr_g))
        ),
        ("--decay", optim.decay, lambda x: 0 <= x <= 1, "0 to 1 works"),
        *(
            (flag, weight, lambda x: 0 <= x <= 1e6, "0 or more works, up to 1000000")
            for flag, weight in (
                ("--lambda-disc", optim.lambda_disc), ("--lambda-cont", optim.lambda_cont),
                ("--consistency", optim.consistency), ("--contrastive", optim.contrastive),
                ("--orthogonal", optim.orthogonal),
            )
        ),
        *(
            (flag, count, lambda n: 0 <= n <= most, f"0 or more works, up to {most}")
            for flag, count in (("--gap-until", optim.gap_until), ("--average", optim.average))
        ),
        *(
            (flag, beta, lambda x: 0 <= x < 1, "0 or more and below 1 works")
            for flag, beta in (("--beta1", optim.beta1), ("--beta2", optim.beta2))
        ),
        ("--seed", run.seed, lambda n: 0 <= n < 2**63, "0 to 2^63 - 1 works"),
        *(
            (flag, every, lambda n: 1 <= n < 2**63, "1 or more works, up to 2^63 - 1")
            for flag, every in (
                ("--log-every", run.log_every), ("--checkpoint-every", run.checkpoint_every),
            )
        ),
        *(
            (flag, every, lambda n: 0 <= n < 2**63, "0 or more works, up to 2^63 - 1")
            for flag, every in (
                ("--sample-every", run.sample_every), ("--evaluate-every", run.evaluate_every),
            )
        ),
    ]  # fmt: skip
    for flag, value, fits, works in limits:
        if value is not None and not fits(value):
            raise UserError(f"{flag} {value}: {works}")


def _check_together(config: TrainConfig) -> None:
    """Refuse values that don't go with each other."""
    optim, run = config.optim, config.run
    if optim.consistency > 0:
        if not any(config.spec.codes[i].is_discrete for i in config.spec.regularized):
            raise UserError(
                f"--consistency {optim.consistency:g}: --codes {config.model.codes} has no "
                "categorical or Bernoulli code for it to act on; --consistency 0 works, or add catK"
            )
        if optim.objective == "gan":
            raise UserError(
                f"--consistency {optim.consistency:g}: with --objective gan nothing that Q learns "
                "may reach D; --consistency 0 works"
            )
    for flag, given in (
        ("--contrastive", optim.contrastive), ("--orthogonal", optim.orthogonal)
    ):  # fmt: skip
        if given > 0:
            _check_between_codes(config, f"{flag} {given:g}")
    if optim.contrastive > 0:
        _check_contrastive(config)
    elif optim.gap_until:
        raise UserError(
            f"--gap-until {optim.gap_until}: without --contrastive there are no pairs to hold "
            "apart; --gap-until 0 works, or --contrastive 1"
        )
    if optim.changes_images and not optim.jitter:
        raise UserError("--jitter '': nothing changes, and --consistency and --augment need it to")
    if run.engine == "reference":
        for flag, given in (
            ("--amp", run.amp), ("--compile", run.compile), ("--cuda-graphs", run.cuda_graphs),
        ):  # fmt: skip
            if given:
                raise UserError(f"{flag}: only --engine fast has it; the reference stays plain")
    if run.amp_dtype != "auto" and not run.amp:
        raise UserError(f"--amp-dtype {run.amp_dtype}: it needs --amp")


def _check_between_codes(config: TrainConfig, asked: str) -> None:
    codes = config.model.codes
    if len(config.spec.continuous) < 2:
        raise UserError(
            f"{asked}: it tells two or more uniform or Gaussian codes apart, and --codes {codes} "
            f"has fewer that are regularised; {asked.split()[0]} 0 works, or add 2xuni"
        )
    if config.optim.objective == "gan":
        raise UserError(
            f"{asked}: with --objective gan nothing but D may teach G; {asked.split()[0]} 0 works"
        )


def _check_contrastive(config: TrainConfig) -> None:
    optim, codes = config.optim, config.model.codes
    asked = f"--contrastive {optim.contrastive:g}"
    if len(config.spec.codes) == MAX_CODES:
        raise UserError(
            f"{asked}: which code a pair shares is drawn beside the codes, so that {MAX_CODES - 1} "
            f"work, and --codes {codes} has {MAX_CODES}"
        )
    size = optim.batch_size
    if size % 2:
        raise UserError(f"--batch-size {size}: {asked} makes pairs of a batch; {size + 1} works")


def _fitting(shape: Shape) -> str:
    names = [name for name in PRESETS if _fits(name, shape)]
    return f"presets that fit: {', '.join(names)}" if names else "no preset fits"


def _fits(preset: str, shape: Shape) -> bool:
    try:
        return architecture_of(preset, shape[1], shape[0]).image_shape == shape
    except UserError:  # of a family, which is built for some sizes
        return False


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape))
