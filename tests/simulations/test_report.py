"""What the report states in words."""

from simulations.report import privacy_statement


def site(name: str, epsilon: float) -> dict[str, object]:
    facts = {"delta": 1e-4, "adjacency": "add-or-remove-one", "accountant": "PLD", "attacker_accuracy": 0.7, "mu": 1.0}
    return {"name": name, "epsilon": epsilon} | facts


def test_the_statement_is_that_of_the_worst_site() -> None:
    sites = [site("North", 2.11), site("South", 2.99), site("East", 0.5)]
    said = " ".join(privacy_statement({"privacy": True, "sites": sites, "rounds": 6, "bytes": {"tensor": 256}}))
    assert "at most epsilon = 2.99 " in said
    assert "worst site: South" in said
    assert "2.11" not in said
