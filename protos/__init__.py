"""The wire: messages (v1), their values, and the conversion between both. Nothing is decided here."""
