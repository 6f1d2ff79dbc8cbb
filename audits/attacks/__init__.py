"""Attacks on what was shared, each with a control without noise, a baseline and the ledger's ceiling."""
