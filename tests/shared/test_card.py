from pathlib import Path

import pytest

from shared.card import SHIPPED, Task
from shared.errors import InputError
from tests.conftest import card_text


def parsed(text: str) -> Task:
    return Task.parse(text, "card.toml")


@pytest.mark.parametrize("card", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_cards_are_valid(card: Path) -> None:
    assert Task.load(card.stem).card.name == card.stem


def test_digest_is_what_sha256sum_prints(task: Task, tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "card.toml"
    path.write_text(task.text)
    assert Task.load(str(path)).digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rounds = 6", "rouds = 6", "card.toml: key 'plan.rouds' is not known here; did you mean 'rounds'?"),
        ("rounds = 6\n", "", "card.toml: key 'plan.rounds' is missing; add it."),
        ("rounds = 6", "rounds = 0", "card.toml: key 'plan.rounds': Input should be greater than or equal to 1."),
        ("schema = 1", "schema = ", "card.toml: not valid TOML"),
        ('"North", "South"', '"North", "North"', "site 'North' is listed twice; list each site once."),
        ('"North", "South"', "", "the roster is empty; name at least one site."),
        ('"North"', '"../North"', "key 'plan.sites.0'"),
        ("rounds = 6", "rounds = 6\nquorum = 3", "quorum 3 is more than the 2 sites of the roster; lower it."),
        ("rounds = 6", 'rounds = 6\naggregation = "mean"', "key 'plan.aggregation': Input should be 'sum', 'trimmed-mean'"),
        ("rounds = 6", "rounds = 6\ntolerate = 1", "tolerate says nothing to 'sum'; remove it, or choose 'trimmed-mean'."),
        ("rounds = 6", 'rounds = 6\naggregation = "krum"', "'krum' needs tolerate, the lying sites to withstand; give 1 or more"),
        ("rounds = 6", 'rounds = 6\naggregation = "trimmed-mean"\ntolerate = 0', "give 1 or more, or choose 'sum'."),
        (
            "rounds = 6",
            'rounds = 6\naggregation = "median"',
            "'median' needs 3 sites and the roster has 2; choose 'sum' or add sites.",
        ),
        ("noise_multiplier = 3.0", "", "needs exactly one of noise_multiplier and epsilon; give one."),
        ("noise_multiplier = 3.0", "noise_multiplier = 0.0", "key 'privacy.noise_multiplier'"),
        ("noise_multiplier = 3.0", "noise_multiplier = inf", "key 'privacy.noise_multiplier'"),
        ("sample_rate = 0.5", "sample_rate = 1.5", "key 'privacy.sample_rate'"),
        ('name = "sick"', 'name = "well"', "two labels have the same name; name each label once."),
        ("rows = 2", "rows = 0\nlabel_rows = false", "nothing could be trained; give one."),
        ("pulse {pulse}", "", "field 'pulse' is not used in text"),
        ("pulse {pulse}", "pulse {pulse", "text is not a valid template"),
        ("edges = [40, 60]", "edges = [60, 40]", "edges must increase"),
    ],
)
def test_a_wrong_card_gets_one_sentence(backbone_folder: Path, old: str, new: str, said: str) -> None:
    text = card_text(backbone_folder)
    assert old in text
    with pytest.raises(InputError) as caught:
        parsed(text.replace(old, new))
    assert said in str(caught.value)
    assert str(caught.value).startswith("card.toml: ")
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_shipped_cards() -> None:
    with pytest.raises(InputError, match="shipped cards: chest-mirrored, chest-xray, heart-disease"):
        Task.load("hart-disease")


@pytest.mark.parametrize(
    ("aggregation", "tolerate", "sites", "quorum", "said"),
    [
        ("trimmed-mean", 2, 4, None, "'trimmed-mean' with tolerate 2 needs 5 sites and the roster has 4"),
        ("trimmed-mean", 2, 5, None, None),
        ("trimmed-mean", 2, 6, 4, "needs 5 sites in every round and the quorum is 4; raise quorum."),
        ("krum", 1, 4, None, "'krum' with tolerate 1 needs 5 sites and the roster has 4"),
        ("krum", 1, 5, None, None),
        ("krum", 2, 8, 6, "needs 7 sites in every round and the quorum is 6"),
        ("median", None, 3, None, None),
        ("median", None, 5, 2, "'median' needs 3 sites in every round and the quorum is 2; raise quorum."),
    ],
)
def test_a_robust_rule_needs_enough_sites_in_every_round(
    backbone_folder: Path, aggregation: str, tolerate: int | None, sites: int, quorum: int | None, said: str | None
) -> None:
    roster = ", ".join(f'"S{n}"' for n in range(sites))
    plan = f'sites = [{roster}]\naggregation = "{aggregation}"'
    plan += f"\ntolerate = {tolerate}" if tolerate else ""
    plan += f"\nquorum = {quorum}" if quorum else ""
    text = card_text(backbone_folder).replace('sites = ["North", "South"]', plan)
    if said is None:
        assert parsed(text).card.plan.tolerates == (tolerate or (sites - 1) // 2)
    else:
        with pytest.raises(InputError, match=f"^card.toml: key 'plan': .*{said}"):
            parsed(text)
