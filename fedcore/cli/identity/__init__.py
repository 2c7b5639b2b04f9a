"""Subcommands of certificates: the authority, join tokens, enrolment, revocation."""
