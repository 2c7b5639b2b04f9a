"""Everything that can be known to be wrong with a local fleet, told before the first process starts."""

from fedcore.client.data.labels import with_labels
from fedcore.core.config.tables import Config
from fedcore.core.errors import ConfigError, DataError
from fedcore.local_fleet.client_extra import require_client
from fedcore.server.run.preflight import check_fleet_fits, check_run
from fedcore.storage.models.model_source import model_folder


def checked(config: Config) -> Config:
    """Return the configuration of a fleet that can begin, with its labels written out.

    Raises what each part is told to raise: ConfigError, DataError, ModelError, JoinRefused.
    """
    require_client("fedcore fleet")
    devices = sum(each.count for each in config.classes)
    if not devices:
        raise ConfigError("a fleet needs devices: add [[fleet.class]] tables to the configuration")
    shards = config.data.shards or devices
    if shards < devices:
        raise ConfigError(f"data.shards is {shards}, fewer than the {devices} devices; raise it or use 0")
    model = model_folder(config.model.path)
    check_run(config, model)
    labelled, rows = with_labels(config)
    if rows < shards:
        raise DataError(
            f"{config.data.train}: {rows} training rows are too few for {shards} devices of one row or more; "
            "take fewer devices, or more rows"
        )
    check_fleet_fits(labelled, check_run(labelled, model))
    return labelled
