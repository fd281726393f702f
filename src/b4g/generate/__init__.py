"""Generation: chats in, completions out, one interface for every engine."""
