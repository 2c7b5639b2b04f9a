"""Check everything about a local fleet that can be checked before its first process starts."""

from fedcore.client.data.labels import with_labels
from fedcore.client.device.model_check import check_model
from fedcore.core.config.tables import Config
from fedcore.core.errors import ConfigError, DataError
from fedcore.local_fleet.client_extra import require_client
from fedcore.server.run.preflight import check_fleet_fits, check_run
from fedcore.storage.models.model_source import model_folder


def checked(config: Config) -> Config:
    """Check the configuration of a fleet and return it with its labels filled in.

    Raises ConfigError, DataError, ModelError or JoinRefused, with the remedy, where the fleet could not run.
    """
    require_client("fedcore fleet")
    devices = sum(device_class.count for device_class in config.classes)
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


def try_model(config: Config) -> None:
    """Load the base model's tokenizer and first layer as every device will; takes seconds, in another process.

    `config` has passed `checked`. Raises ModelError with the remedy.
    """
    check_model(
        model_folder(config.model.path),
        labels=config.data.labels,
        head=config.model.head,
        dtype=config.model.dtype,
    )
