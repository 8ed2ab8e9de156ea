"""What other programs call it: commands and options that people type, and what is meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fastinfogan.similar import meant

COMMANDS = {
    "train": "fit run start training learn resume continue",
    "study": "sweep seeds compare multirun studies benchmark",
    "evaluate": "eval test score metrics measure validate evaluation",
    "sample": "generate gen draw samples synthesize synthesise images",
    "traverse": "traversal interpolate latent walk vary",
    "animate": "animation gif video movie film webp apng orbit loop",
    "explore": "explorer view browse gui interactive demo play html viewer sliders web app serve",
    "export": "save convert onnx dump",
    "ingest": "prepare preprocess decode download cache import convert-dataset",
    "datasets": "list data ls dataset show",
    "doctor": "check info env diagnose status devices",
}
# Option -> what it is called elsewhere. An option that several commands have comes before those
# that only one has.
OPTIONS = {
    "iterations": (
        "epochs epoch n-epochs num-epochs max-epochs nepochs steps n-steps num-steps max-steps "
        "train-steps iters n-iters num-iters max-iters niter n-iter iter total-iters kimg"
    ),
    "batch-size": "batch bs b batchsize train-batch-size mini-batch minibatch bsize",
    "lr-d": "d-lr lr-disc learning-rate-d dlr lrd",
    "lr-g": "lr g-lr lr-gen learning-rate learning-rate-g glr lrg",
    "lambda-disc": "lambda lambda-cat lambda-info info-weight lambda-q disc-lambda",
    "lambda-cont": "lambda-con cont-lambda",
    "beta1": "b1 adam-beta1 momentum beta-1",
    "beta2": "b2 adam-beta2 beta-2",
    "noise": "nz z-dim zdim latent-dim latent-size noise-dim dim-z num-z n-z latent",
    "codes": (
        "code categories n-categories num-categories n-classes num-classes cat-dim dis-c-dim "
        "num-dis-c num-con-c con-c-dim n-codes num-codes latent-code latent-codes code-dim c-dim"
    ),
    "preset": "model arch architecture network config net",
    "image-size": "size img-size imsize resolution res imgsize image-width crop-size",
    "channels": "nc n-channels num-channels img-channels colors",
    "dataset": "data-set ds data-name",
    "data-dir": (
        "data dataroot data-root root data-path datadir dataset-path dataset-dir path input "
        "input-dir train-dir images image-dir folder"
    ),
    "out": (
        "output outdir out-dir output-dir save-dir log-dir logdir run-dir result-dir results-dir "
        "results save-path checkpoint-dir exp-dir work-dir name run-name o"
    ),
    "output": "out o save-to file out-file output-file outfile save-path png",
    "resume": (
        "checkpoint ckpt load continue load-from from-checkpoint resume-from restore restart "
        "load-path load-model pretrained r"
    ),
    "device": "gpu gpus cuda cpu gpu-id gpu-ids use-gpu use-cuda no-cuda ngpu accelerator devices",
    "amp": "fp16 bf16 half mixed-precision precision autocast float16 bfloat16",
    "seed": "manual-seed random-seed manualseed rng-seed random-state",
    "seeds": "n-seeds num-seeds runs n-runs repeats trials",
    "jobs": "workers num-workers processes parallel n-jobs j",
    "count": "n num-samples num-images n-samples samples number num n-images images",
    "samples": "n num-samples count n-samples num-images",
    "rows": "n-rows nrow nrows row",
    "frames": "n-frames num-frames nframes steps n-steps num-steps fps frame",
    "seconds": "duration length time period",
    "scale": "zoom enlarge magnify upscale size",
    "columns": "cols n-cols ncol ncols steps n-steps column",
    "low": "min start from minimum lower",
    "high": "max end to stop maximum upper",
    "code": "c dim latent-dim factor codes index",
    "set": "fix fixed codes values with given code",
    "log-every": "log-interval log-freq log-step print-every display-iter log-steps logging-steps",
    "sample-every": "sample-interval image-interval sample-freq save-image-every sample-step",
    "evaluate-every": "eval-every eval-interval eval-freq eval-steps validate-every",
    "checkpoint-every": (
        "save-every save-interval checkpoint-interval save-freq save-epoch snapshot snap "
        "checkpoint-freq save-steps"
    ),
    "reduce-dtype": (
        "grad-reduce-in-bf16 grad-reduce-dtype gradient-compression compress-gradients comm-dtype "
        "communication-data-type compression bf16-allreduce fp16-allreduce ddp-comm-hook"
    ),
    "average": "ema ema-decay ema-kimg swa",
    "augment": "augmentation aug ada diffaugment data-augmentation",
    "objective": "loss loss-type gan-mode mode",
    "dry-run": "dryrun test print-config show-config summary",
    "allow-bad": "skip-bad ignore-errors skip-errors force",
}
REMARKS = {
    "epochs": "it counts updates: an epoch is as many as there are images / --batch-size",
    "epoch": "it counts updates: an epoch is as many as there are images / --batch-size",
    "lr": "and --lr-d for D and Q",
    "learning-rate": "and --lr-d for D and Q",
    "cpu": "as in --device cpu",
    "cuda": "as in --device cuda",
    "no-cuda": "as in --device cpu",
    "categories": "as in --codes cat10,uni,uni",
    "fps": "as many as --seconds has time for",
    "n-classes": "as in --codes cat10,uni,uni",
    "num-classes": "as in --codes cat10,uni,uni",
}
# Nothing stands in for these.
_NO_WORKERS = "it has no worker processes; OMP_NUM_THREADS in the environment sets torch's threads"
ABSENT = dict.fromkeys(
    "workers num-workers n-workers nworkers dataloader-workers data-workers loader-workers "
    "threads num-threads n-threads cpus num-cpus".split(),
    _NO_WORKERS,
)
_MEANS = {  # what is typed -> what can be meant, in the order of the tables
    table: {
        word: [name for name, words in rows.items() if word in words.split()]
        for word in " ".join(rows.values()).split()
    }
    for table, rows in (("commands", COMMANDS), ("options", OPTIONS))
}


def command_hint(word: str) -> str:
    """What to type instead of a command that there isn't: "; did you mean train?", or ""."""
    aliases = {other: names[0] for other, names in _MEANS["commands"].items()}
    close = meant(word, COMMANDS, aliases)
    return "" if close is None else f"; did you mean {close}?"


def instead_of_option(typed: str, command: str, options: Mapping[str, Collection[str]]) -> str:
    """What to type instead of an option that a command hasn't got.

    Args:
        typed: the option, without dashes.
        command: the command's name.
        options: of every command, its options' names.
    """
    word = typed.lower().replace("_", "-")
    own = options[command]
    intended = [name for name in (word, *_MEANS["options"].get(word, ())) if name in own]
    if not intended and word in ABSENT:
        return f"no option of {command}: {ABSENT[word]}"
    if not intended:
        elsewhere = [name for name, theirs in options.items() if word in theirs]
        if elsewhere:
            return f"an option of {' and '.join(elsewhere)}, and none of {command}"
        intended = [near] if (near := meant(word, own)) else []
    if not intended:
        return f"no option of {command}; fastinfogan {command} --help lists them"
    remark = f" ({REMARKS[word]})" if word in REMARKS and intended[0] != word else ""
    return f"no option of {command}; did you mean --{intended[0]}?{remark}"
