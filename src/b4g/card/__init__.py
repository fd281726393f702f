"""The one-page card of an implant: six properties, the measures behind each, and what became of the owner's claims."""

from b4g.card.make import Card, Line, Section, make_card
from b4g.card.verdict import Evidence, Verdict

__all__ = ["Card", "Evidence", "Line", "Section", "Verdict", "make_card"]
