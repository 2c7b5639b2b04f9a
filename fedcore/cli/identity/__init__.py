"""Subcommands for certificates: the authority, join tokens, enrolment, revocation."""
