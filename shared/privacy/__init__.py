"""The privacy mechanism in pieces that do not know each other; `shared.privacy.mechanism` composes them."""
