"""What makes two base models the same: hashes of their tensors, config and tokenizer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Hex SHA-256 of the canonical backbone tensors, the architecture keys of config.json, and the tokenizer."""

    tensors: str
    config: str
    tokenizer: str

    def difference(self, other: "Fingerprint") -> str | None:
        """Name the first part that differs, with both hashes; None where all agree."""
        for part in ("tensors", "config", "tokenizer"):
            mine, theirs = getattr(self, part), getattr(other, part)
            if mine != theirs:
                return f"{part}: {mine[:16]} here, {theirs[:16]} there"
        return None
