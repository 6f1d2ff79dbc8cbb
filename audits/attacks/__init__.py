"""Attacks on what hospitals share: what a curious coordinator could learn, held against what no attacker can pass.

Every attack is tried three times: on what leaves, on the same without noise (the control: it shows that the attack works), and
with the prior alone (the baseline). `ceiling` says what the ledger's releases allow at most; an attack above it is a bug.
"""
