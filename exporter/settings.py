"""The settings, as frozen objects; those of one scheduler are `Settings` of its own folder in `exporter/sources/`."""

from typing import Annotated, Any

import msgspec

from history.configuration import decode_value
from history.settings import Duration, HistorySettings, PagesSettings


class WebSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the pages are served."""

    listen_address: str = ":10227"
    telemetry_path: str = "/metrics"
    slurm_names: bool | str = False
    """Whose names there is a page with: those of the older Slurm exporter (true is the same), or of the newer one."""

    def __post_init__(self) -> None:
        if self.slurm_names not in (False, True, "older", "newer"):
            raise ValueError(f"slurm_names {self.slurm_names!r}: expected older or newer (true is older), or false")
        if not self.telemetry_path.startswith("/"):
            raise ValueError(f"telemetry_path {self.telemetry_path!r}: a path starts with /")
        if self.telemetry_path in ("/", "/-/healthy", "/-/ready") or not set("?#%").isdisjoint(self.telemetry_path):
            raise ValueError(f"telemetry_path {self.telemetry_path!r}: another page has it, or no page can; /metrics?")


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many series may become."""

    owners: Annotated[int, msgspec.Meta(ge=0)] = 200
    series: Annotated[int, msgspec.Meta(ge=1)] = 50_000


class Every(float):
    """How often something is read, in seconds; 0 where it is not, which is written `off`."""

    @classmethod
    def read(cls, value: Any) -> "Every":
        """Read it. Raises ValueError."""
        if value is False or value == "off":
            return cls(0)
        try:
            return cls(decode_value(Duration, value))
        except ValueError as error:
            raise ValueError(f"{error}; or off") from None


class PolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often each part of a scheduler's policy is read; `off` where it is not."""

    limits: Every = Every(300)
    shares: Every = Every(300)
    reservations: Every = Every(300)
    licences: Every = Every(300)


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every scheduler's cluster has."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    scheduler: str
    interval: Duration = Duration(60)
    """Seconds between the starts of two polls."""
    timeout: Duration | None = None
    """Seconds after which a call to the scheduler is given up; the interval, and at least 30 s, when not said."""
    verify: bool = True
    """Whether each night the day before is compared with the scheduler's accounting."""
    stale_after: Duration | None = None
    """Seconds after which a reading is no longer shown; three intervals when not said."""

    policy: PolicySettings = PolicySettings()

    @property
    def call_seconds(self) -> float:
        """Return the longest that one call to the scheduler may take."""
        return self.timeout if self.timeout is not None else max(30.0, self.interval)

    @property
    def stale_seconds(self) -> float:
        """Return the age at which a reading is withdrawn."""
        return self.stale_after if self.stale_after is not None else 3 * self.interval


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration."""

    clusters: tuple[Cluster, ...]
    history: HistorySettings = HistorySettings()
    web: WebSettings = WebSettings()
    limits: Limits = Limits()
    pages: PagesSettings = PagesSettings()
