import pytest

from shared.card import Task
from shared.errors import InputError
from shared.template import FieldTable, RecordText
from simulations.heart import example_row


def test_the_demonstration_says_a_row_in_words() -> None:
    said = Task.load("heart-disease").card.record_text.render(example_row())
    assert said == (
        "sex male age middle aged chest pain silent blood pressure raised cholesterol high sugar normal ecg normal "
        "heart rate fair exercise angina yes st depression mild"
    )


@pytest.mark.parametrize(
    ("value", "said"), [(49.9, "young"), (50, "middle"), ("65", "old"), (None, "missing"), (float("nan"), "missing")]
)
def test_buckets(value: object, said: str) -> None:
    assert FieldTable(edges=[50, 65], words=["young", "middle", "old"]).say(value) == said


def test_a_cell_without_words_names_field_and_value() -> None:
    text = RecordText("sex {sex}", {"sex": FieldTable(words={"M": "male"})})
    with pytest.raises(
        InputError, match="field 'sex': value 'X' has no words; known values are M; mend the cell or extend the card"
    ):
        text.render({"sex": "X"})
    with pytest.raises(InputError, match="value 'many' is not a number"):
        RecordText("age {age}", {"age": FieldTable(edges=[1], words=["a", "b"])}).render({"age": "many"})


def test_public_records_use_the_cards_words_only() -> None:
    card = Task.load("heart-disease").card
    words = {word for field in card.template.fields.values() for choice in field.choices() for word in choice.split()}
    frame = set(card.template.text.replace("{", " {").split())
    drawn = card.record_text.draw(lambda n: n - 1)
    assert set(drawn.split()) <= words | frame
    assert "missing" in card.record_text.empty()
