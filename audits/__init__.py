"""Certificates and attacks on what was shared."""
