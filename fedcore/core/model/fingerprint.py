"""The identity of a base model: hashes of its tensors, config and tokenizer."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Hex SHA-256 of the canonical backbone tensors, the architecture keys of config.json, and the tokenizer."""

    tensors: str
    config: str
    tokenizer: str

    @property
    def combined(self) -> str:
        """One sha256 hex over the three parts."""
        return hashlib.sha256("\n".join((self.tensors, self.config, self.tokenizer)).encode()).hexdigest()

    def differences(self, other: "Fingerprint") -> tuple[str, ...]:
        """Return the parts in which `other` differs: any of "tensors", "config", "tokenizer"."""
        return tuple(part for part in ("tensors", "config", "tokenizer") if getattr(self, part) != getattr(other, part))

    def difference(self, other: "Fingerprint") -> str | None:
        """Return the first part that differs, with both hashes; None where all agree."""
        for part in self.differences(other):
            return f"{part} {getattr(self, part)[:16]} here, {getattr(other, part)[:16]} there"
        return None
