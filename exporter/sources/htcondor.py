from exporter.config import Cluster
class Settings(Cluster, frozen=True, kw_only=True, forbid_unknown_fields=True):
    collectors: tuple[str, ...] = ()
