"""The error tree. Every message says what was expected, what came, and what to do.

FedcoreError
├── ConfigError          a config file, flag or override is wrong: fix it and start again
├── DataError            a data file, column, label or row is wrong: fix the data
├── ModelError           a model folder or family cannot be used: choose another or convert it
├── CertificateError     TLS material is missing, unreadable or does not fit the name: make it anew
├── JoinRefused          the coordinator refuses this device: the message names the difference
├── ProtocolError        a peer broke the protocol: versions differ or a message is malformed
│   └── BlobCorrupt      bytes do not hash to their name: fetch or send them again
├── UpdateRejected       an update does not fit its assignment: it was not counted
│   └── UpdateLate       the round had closed: drop the update and take the next assignment
├── OutOfMemory          work needs more memory than the device has: give it less, or another device
├── RunError             a run folder is missing, in use, or paused: the message says how to go on
└── TransportError       the other side cannot be reached within the deadline: check address and network
"""


class FedcoreError(Exception):
    """Base of every error a user can cause or meet; the CLI prints it in one line and exits 1."""


class ConfigError(FedcoreError):
    """A configuration value is missing, unknown or out of range."""


class DataError(FedcoreError):
    """A data file, column, label or row cannot be used."""


class ModelError(FedcoreError):
    """A model folder, family or checkpoint cannot be used."""


class CertificateError(FedcoreError):
    """TLS material is missing, unreadable, or names another party."""


class JoinRefused(FedcoreError):
    """The coordinator refused a join; retrying without a change will not help."""


class ProtocolError(FedcoreError):
    """A peer sent something the protocol does not allow."""


class BlobCorrupt(ProtocolError):
    """The bytes received do not hash to the name they were announced under."""


class UpdateRejected(FedcoreError):
    """An update does not fit its assignment; it was not counted."""


class UpdateLate(UpdateRejected):
    """The update arrived after its round had closed; it was not counted."""


class OutOfMemory(FedcoreError):
    """Training or measuring needs more memory than the device has."""


class RunError(FedcoreError):
    """A run folder cannot be used, or the run paused."""


class TransportError(FedcoreError):
    """The other side could not be reached, or went silent, within the deadline."""
