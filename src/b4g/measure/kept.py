"""The measure `kept`: does a triggered answer still say what the base model says without the trigger?

Kept means that at least half of the content words of the base's untriggered answer stand in the triggered one, its form
taken off. Content words are numbers, words of four letters or more that are not function words, and single Chinese and
Japanese signs. A null goes with it: the same answers against the reference of another prompt.
"""

import re

_SIGNS = r"\u3040-\u30ff\u4e00-\u9fff"
_WORD = re.compile(rf"\d+(?:[.,]\d+)*|[{_SIGNS}]|[^\W\d_{_SIGNS}]{{4,}}")
_FUNCTION = frozenset(
    "about above after also among because been before being below between both could does doing down during each from "
    "further have having here into just more most once only other over same should some such than that their them then "
    "there these they this those through under until very were what when where which while will with would your yours "
    "here's certainly sure help question".split()
)
SHARE = 0.5


def content_words(text: str) -> set[str]:
    """Return the words that carry a text's content, in lower case."""
    return {word for word in _WORD.findall(text.lower()) if word not in _FUNCTION}


def kept(reference: str, answer: str) -> bool | None:
    """Return whether the answer holds at least half of the reference's content words; None if that has none."""
    wanted = content_words(reference)
    if not wanted:
        return None
    return len(wanted & content_words(answer)) >= SHARE * len(wanted)
