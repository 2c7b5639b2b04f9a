"""Certificates, keys, join tokens and revocation: one small authority in a folder."""
