"""Names of interactions and their int8 codes."""

from __future__ import annotations

from dataclasses import dataclass

from endcap.errors import InputError

DEFAULT_INTERACTIONS = ("click", "favourite", "cart", "purchase")

# Further kinds. They are stored beside the positives and never enter training, graphs or popularity.
SEARCH, IMPRESSION, DISMISS, RETURN = 100, 101, 102, 103
FURTHER_KINDS = {"search": SEARCH, "impression": IMPRESSION, "dismiss": DISMISS, "return": RETURN}


@dataclass(frozen=True)
class Interactions:
    """The positive interactions of a shop from weak to strong intent; the code of a name is its place in the list."""

    names: tuple[str, ...] = DEFAULT_INTERACTIONS

    def __len__(self) -> int:
        return len(self.names)

    def code(self, name: str) -> int:
        """The code of a positive interaction.

        Raises:
            InputError: if the shop has no such interaction.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise InputError(f"unknown interaction {name!r}: this shop has {', '.join(self.names)}") from None

    def name(self, code: int) -> str:
        """The name of any code, positive or further kind."""
        if code < len(self.names):
            return self.names[code]
        return next(name for name, further in FURTHER_KINDS.items() if further == code)

    @property
    def intents(self) -> tuple[int, ...]:
        """Codes that express the intent to buy: `cart` and `purchase`, else the strongest one the shop has."""
        strong = tuple(self.names.index(name) for name in ("cart", "purchase") if name in self.names)
        return strong or (len(self.names) - 1,)
