"""Slurm's trackable resources: `cpu=4,mem=3G,node=1,gres/gpu:a100=2,gres/gpu=2`."""

from functools import lru_cache

import msgspec

from exporter.sources._units import NOTHING, size


class Tres(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for or held, in base units."""

    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: float | None = None
    gpu_models: tuple[tuple[str, float], ...] = ()
    nodes: int | None = None


@lru_cache(maxsize=65536)
def tres(text: str) -> Tres:
    """Read a TRES text.

    A typed GPU stands beside the untyped sum of all of them, which is the number; where only typed ones are
    told, they are added. Raises ValueError.
    """
    if text in NOTHING:
        return Tres()
    values: dict[str, str] = {}
    for item in text.split(","):
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"not a TRES: {item!r}")
        values[key] = value
    models = tuple(
        (key.removeprefix("gres/gpu:"), float(value)) for key, value in values.items() if key.startswith("gres/gpu:")
    )
    untyped = values.get("gres/gpu")
    gpus = float(untyped) if untyped is not None else (sum(number for _, number in models) if models else None)
    return Tres(
        cpus=float(values["cpu"]) if "cpu" in values else None,
        memory_bytes=size(values["mem"], "M") if "mem" in values else None,
        # None, not 0, where no GPU is told: Slurm tells GPUs only with AccountingStorageTRES=gres/gpu
        gpus=gpus,
        gpu_models=models,
        nodes=int(values["node"]) if "node" in values else None,
    )


def asked_gpus(per_job: str, per_node: str, nodes: int | None) -> float | None:
    """Give the GPUs of `--gpus` and `--gres`, for clusters whose TRES do not tell them."""
    for text, times in ((per_job, 1), (per_node, nodes or 1)):
        for item in text.split(","):
            words = item.replace("gres/", "").replace("gres:", "").split(":")
            if words[0] != "gpu":
                continue
            last = words[-1].partition("(")[0]
            return float(last) * times if last.isdigit() else float(times)
    return None
