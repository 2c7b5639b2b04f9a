"""The codec each device of a plan is given."""

from fedcore.core.codec.negotiation import agreed_codec
from fedcore.core.config.tables import Config
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import Json


def codec_of(config: Config, profile: DeviceProfile) -> str:
    """Return the codec of the device's class, or the best known one where it cannot encode that."""
    return agreed_codec(config.codec(profile.device_class), profile.codecs)


def codec_event(config: Config, profile: DeviceProfile, round_index: int) -> Json | None:
    """Return the log's record of a device that is given another codec than its class, None where it is not."""
    wanted, codec = config.codec(profile.device_class), codec_of(config, profile)
    if codec == wanted:
        return None
    return {"event": "codec", "round": round_index, "device": profile.name, "wanted": wanted, "codec": codec}
