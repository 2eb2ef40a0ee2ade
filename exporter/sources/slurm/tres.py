"""Slurm's trackable resources: `cpu=4,mem=3G,node=1,gres/gpu:a100=2,gres/gpu=2`, and generic ones: `gpu:a100:4(S:0-1)`.

GPUs that a job has whole are told by model (a MIG profile is a model of its own); parts of GPUs, shards and MPS, are
told apart from them and never added: how many make a GPU is the site's affair.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

import msgspec

from exporter.sources.units import NOTHING, real, size, whole

PARTS = ("shard", "mps")
"""Generic resources that are parts of GPUs."""
_ITEM = re.compile(r"(?:[^,(]|\([^()]*\))+")
_MAXIMUM = 1_000_000_000
"""Larger numbers are no counts of devices."""
_SPACE = re.compile(r"\s")


class Tres(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for or held, in base units."""

    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: float | None = None
    """Whole GPUs; None, not 0, where none is told: Slurm tells them only with AccountingStorageTRES=gres/gpu."""
    gpu_models: tuple[tuple[str, float], ...] = ()
    gpu_parts: tuple[tuple[str, float], ...] = ()
    """Shards and MPS, by `shard` or `shard:model`."""
    nodes: int | None = None
    odd: tuple[str, ...] = ()
    """Items that can't be read: they are not said."""


@lru_cache(maxsize=65536)
def tres(text: str) -> Tres:
    """Read a TRES text.

    A typed GPU stands beside the untyped sum of all of them, which is the number; where only typed ones are
    told, they are added.
    """
    if text in NOTHING:
        return Tres()
    found: dict[str, float | None] = {}
    odd: list[str] = []
    for item in text.split(","):
        key, equals, value = item.partition("=")
        try:
            if not equals:
                raise ValueError("not a TRES")
            if key == "mem":
                found[key] = size(value, "M")
            elif key in ("cpu", "node") or key.startswith("gres/"):
                found[key] = real(value)
        except ValueError as error:
            odd.append(f"{item[:60]}: {error}")
    gpus = _by_model(found, "gpu")
    untyped = gpus.pop("", None)
    parts: dict[str, float] = {}
    for kind in PARTS:
        each = _by_model(found, kind)
        if len(each) > 1:
            each.pop("", None)  # the sum of the typed ones beside it
        parts |= {f"{kind}:{model}" if model else kind: number for model, number in each.items()}
    nodes, memory = found.get("node"), found.get("mem")
    return Tres(
        cpus=found.get("cpu"),
        memory_bytes=None if memory is None else int(memory),
        gpus=untyped if untyped is not None else sum(gpus.values()) if gpus else None,
        gpu_models=tuple(gpus.items()),
        gpu_parts=tuple(parts.items()),
        nodes=None if nodes is None else int(nodes),
        odd=tuple(odd),
    )


def _by_model(found: Mapping[str, float | None], kind: str) -> dict[str, float]:
    """Return the numbers of one generic resource by model; the untyped one is that of the empty text."""
    name = f"gres/{kind}"
    return {
        key.removeprefix(name).lstrip(":"): number
        for key, number in found.items()
        if number is not None and (key == name or key.startswith(f"{name}:"))
    }


@lru_cache(maxsize=65536)
def usage(text: str, name: str) -> str:
    """Return one item of sacct's usage, such as `mem` of `cpu=00:00:01,mem=204800K`; the empty text where it isn't."""
    return next((item.partition("=")[2] for item in text.split(",") if item.partition("=")[0] == name), "")


@lru_cache(maxsize=65536)
def gres(text: str) -> dict[str, dict[str, float]]:
    """Return the numbers of generic resources by kind and model, of `gpu:a100:4(S:0-1),shard:a100:16`.

    What a node has (Gres), what of it is used (GresUsed) and what a job wants (TresPerNode and the like) are written
    alike; without a number it is one, without a model `gpu`.
    """
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for kind, model, number in _items(text):
        found[kind][model] += number
    return {kind: dict(models) for kind, models in found.items()}


def _items(text: str) -> Iterator[tuple[str, str, float]]:
    if text in NOTHING:
        return
    for item in _ITEM.findall(text):
        plain = item.partition("(")[0] if "(null)" not in item else item.replace("(null)", "").partition("(")[0]
        words = re.sub(r"^gres[/:]", "", plain.strip()).replace("=", ":").split(":")
        kind, *rest = words
        number = whole(rest[-1], _MAXIMUM) if rest else None
        if number is not None:
            rest.pop()
        model = rest[0] if rest and rest[0] else kind if kind in PARTS else "gpu"
        if not _SPACE.search(kind):
            yield kind, model, 1.0 if number is None else float(number)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The GPUs that a job asks for, as it wrote them."""

    gpus: float | None = None
    gpu_models: tuple[tuple[str, float], ...] = ()
    gpu_parts: tuple[tuple[str, float], ...] = ()


def wanted(per: Iterable[tuple[str, int]]) -> Wanted:
    """Add up what a job asks for by job, node, socket and task, as it wrote it: some clusters' TRES don't tell it.

    Where a job says it in several ways, each is a limit of the same GPUs, and the largest is taken.

    Args:
        per: texts with how many times each counts.
    """
    best = Wanted()
    for text, times in per:
        models: dict[str, float] = defaultdict(float)
        parts: dict[str, float] = defaultdict(float)
        kinds = gres(text)
        for model, number in kinds.get("gpu", {}).items():
            models[model] += number * times
        for kind in PARTS:
            for model, number in kinds.get(kind, {}).items():
                parts[kind if model == kind else f"{kind}:{model}"] += number * times
        each = _wanted(models, parts)
        if (each.gpus or 0, len(each.gpu_parts)) > (best.gpus or 0, len(best.gpu_parts)):
            best = each
    return best


def _wanted(models: Mapping[str, float], parts: Mapping[str, float]) -> Wanted:
    return Wanted(
        gpus=sum(models.values()) if models else None,
        gpu_models=tuple((model, number) for model, number in sorted(models.items()) if model != "gpu"),
        gpu_parts=tuple(sorted(parts.items())),
    )
