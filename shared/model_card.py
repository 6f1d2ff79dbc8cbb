"""A prompt's model card: what it is for, what it was trained on, what that cost, where it comes from."""

from typing import Any

from shared.library import Entry


def model_card(entry: Entry) -> dict[str, Any]:
    """Return the card's facts; None stands where nobody said."""
    facts, notes, sites = entry.facts, entry.notes, entry.facts.get("sites", [])
    spent = [site["epsilon"] for site in sites if site.get("epsilon") is not None]
    return {
        "name": entry.name,
        "task": facts.get("task"),
        "title": entry.task.card.title if entry.task else None,
        "task_digest": facts.get("task_digest"),
        "prompt_sha256": entry.digest,
        "init": entry.init,
        "started_from": facts.get("init"),
        "lineage": notes.get("lineage", []),
        "backbone": entry.task.card.backbone.source if entry.task else None,
        "backbone_fingerprint": entry.fingerprint,
        "layer": facts["layer"],
        "rows": entry.rows,
        "tune": (facts.get("tune") or {}).get("kind"),
        "labels": entry.labels,
        "peft_loads_it": facts.get("peft_loads_it"),
        "personal": facts["personal"]["say"] if "personal" in facts else None,
        "private": facts.get("privacy"),
        "epsilon": max(spent) if spent else None,
        "delta": max((site["delta"] for site in sites if site.get("delta")), default=None),
        "unit": "patient",
        "adjacency": entry.task.card.privacy.adjacency if entry.task else None,
        "accountant": next((site["accountant"] for site in sites if site.get("accountant")), None),
        "sites": [str(site["name"]) for site in sites],
        "licence": notes.get("licence"),
        "intended_use": notes.get("intended_use"),
    }
