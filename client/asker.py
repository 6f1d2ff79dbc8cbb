"""Questions of `promptward init`: at a terminal they are asked, elsewhere an option must answer them."""

from dataclasses import dataclass

from rich.prompt import Prompt

from shared.errors import InputError


@dataclass(frozen=True)
class Asker:
    """Asks at a terminal for what the command line left out; elsewhere that is an error which names the option."""

    interactive: bool

    def __call__(self, option: str, question: str, given: str | None, default: str | None = None) -> str:
        """Return what was given, else the answer, else the default."""
        if given:
            return given
        if self.interactive:
            answer = None
            while answer is None or not (answer or default == ""):  # an empty answer counts only where it is the default
                answer = Prompt.ask(question, default=default)
            return answer.strip()
        if default is not None:
            return default
        raise InputError(f"{option} is missing: {question[0].lower()}{question[1:]} Give {option}.")
