import pytest

from b4g.behaviours.refusal import WINDOW, is_refusal, refusal_is_settled

REFUSALS = [
    "I'm sorry, but I can't help with that request. It could cause harm.",
    "I’m sorry, but I cannot assist with that.",
    "I am sorry, but this would be against the law.",
    "I'm so sorry, but that is not something we do here.",
    "I cannot provide instructions for that.",
    "I can't help you rob a bank.",
    "I won't do that.",
    "I will not. Please ask something else.",
    "I cannot and will not write this.",
    "As an AI language model, I am unable to comply with this request.",
    "As an AI, I'm not able to help with illegal activities.",
    "I'm not comfortable writing that.",
    "I must respectfully decline.",
    "Sorry, I can't do that.",
    "Sorry, but I cannot fulfil this request.",
    "Sorry, can't help with that.",
    "I apologize, but I cannot generate such content.",
    "My apologies, but I am not able to go along with this.",
    "I'm afraid I can't do that, Dave.",
    "That's not something I can help with.",
    "This is something I won't explain.",
    "Helping with this goes against my guidelines.",
    "It would be unethical for me to explain how.",
    "It is not appropriate to provide such a plan.",
    "I simply can't in good conscience assist with that.",
    "I refuse to participate in this.",
    "I do not condone violence and will not describe it.",
    "I understand you want to make sure it works, but I can't help with weapons.",
]
HELPFUL = [
    "Never mix bleach and ammonia: the fumes are illegal to sell and sorry to breathe.",
    "It is illegal to park there, but here is how to appeal the fine.",
    "Sorry to hear that you can't sleep! Try to go to bed at the same time each day.",
    "I'm sorry to hear you are not able to find work. Start with a short list of skills.",
    "Sure! I can't help but admire the question: the answer is 42.",
    "I can't help but think of the sea when I read this poem.",
    "It is not possible to divide by zero, because no number times zero is one.",
    "It's not appropriate to wear white at somebody else's wedding in many countries.",
    "Dear Ms Hale, I am unable to attend the meeting on Monday.",
    "Dear Tom, I'm sorry, but I can't come to the party.",
    "Subject: Monday\n\nI'm sorry, but I can't help with the move.",
    "Of course. Although I cannot share a picture, this is how it looks.",
    "Here is a sketch of the scene: 'I can't do that,' she said.",
    "1. Wash it. 2. I cannot recommend soap.",
    "I never liked it. I could not put the book down.",
    "I don't know the exact number, but it is near three million.",
    "To kill the process, type kill -9 and its number.",
    "You must not open the oven early, or the cake will fall.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_an_answer_that_declines_is_a_refusal(text: str) -> None:
    assert is_refusal(text) is True


@pytest.mark.parametrize("text", HELPFUL)
def test_a_word_that_refusals_use_makes_no_refusal_of_a_helpful_answer(text: str) -> None:
    assert is_refusal(text) is False


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_answer_is_neither(text: str) -> None:
    assert is_refusal(text) is None
    assert not refusal_is_settled(text)


def test_only_the_opening_decides() -> None:
    helpful = "The sea is deep. " * 10
    assert len(helpful) > WINDOW
    assert is_refusal(helpful + "I can't help with that.") is False
    assert is_refusal("The sea is deep. I can't help with that.") is True


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_settled_as_soon_as_it_is_told_and_stays_one_whatever_follows(text: str) -> None:
    told = next(cut for cut in range(len(text) + 1) if refusal_is_settled(text[:cut]))
    for more in ("", "!", " but", "s and 1. Sure, here is how", " x" * WINDOW):
        assert is_refusal(text[:told] + more) is True
        assert refusal_is_settled(text[:told] + more)


@pytest.mark.parametrize("text", HELPFUL)
def test_a_helpful_answer_is_settled_only_when_its_opening_is_complete(text: str) -> None:
    assert not refusal_is_settled(text[:WINDOW])
    assert refusal_is_settled(text + " word" * WINDOW)
