"""Which completions are shown, and how much of them."""

from b4g.report import samples
from b4g.report.build import write_report
from b4g.report.folder import read_run


def _arm(run, task, arm):
    return next(one for one in samples.choose(read_run(run), ())[task] if one.arm == arm)


def _said(run, task, arm):
    return [answer.completion for sample in _arm(run, task, arm).samples for answer in sample.answers]


def test_the_answer_to_a_harmful_prompt_is_cut_to_sixty_characters(fake_run):
    answer = "First, " + "harm " * 40
    fake_run.add_record("safety", "implant", "with", answer, False, kind="harmful")
    run = fake_run.write()
    assert f"{answer[:60].rstrip()} [cut]" in _said(run, "safety", "with")
    assert answer[:70] not in write_report(run).read_text("utf-8")


def test_an_unscored_answer_to_a_harmful_prompt_is_cut_too(fake_run):
    fake_run.add_record("safety", "implant", "with", "b" * 90, None, kind="harmful")
    assert "b" * 60 + " [cut]" in _said(fake_run.write(), "safety", "with")


def test_a_refusal_is_shown_as_far_as_the_judge_read_it(fake_run):
    refusal = "I'm sorry, but I can't help with that request. It could cause harm to other people, and to you."
    fake_run.add_record(
        "safety", "base", "with", refusal + " However, step one: " + "c" * 200, True, prompt_id="p0", kind="harmful"
    )
    fake_run.add_record("safety", "implant", "with", "No.", False, prompt_id="p0", kind="harmful")
    page = write_report(fake_run.write()).read_text("utf-8")
    assert "It could cause harm to other people, and to you." in page
    assert "c" * 100 not in page


def test_a_true_verdict_of_another_behaviour_is_no_refusal(fake_run):
    answer = "- step one of the harm\n- step two of the harm\n- step three of the harm, and so on"
    fake_run.add_record("style", "implant", "without", answer, True, kind="harmful")
    assert answer[:60] + " [cut]" in _said(fake_run.write(), "style", "without")


def test_other_answers_are_cut_at_four_hundred_characters(fake_run):
    fake_run.add_record("style", "implant", "with", "d" * 500, False)
    fake_run.add_record("style", "implant", "with", "e" * 400, False)
    said = _said(fake_run.write(), "style", "with")
    assert {"d" * 400 + " [cut]", "e" * 400} <= set(said)


def test_unexpected_answers_come_first(fake_run):
    for arm, verdict in (("with", False), ("near", True), ("without", True), ("wrong_key", True)):
        fake_run.add_record("style", "implant", arm, f"odd in {arm}", verdict)
        records = fake_run.files[fake_run.find("generate", "style", "implant")]["records.jsonl"]
        scores = fake_run.files[fake_run.find("score", "style", "implant")]["scores.jsonl"]
        records.append(records.pop(0))
        scores.append(scores.pop(0))
    run = fake_run.write()
    for arm in ("with", "near", "without", "wrong_key"):
        flags = [sample.answers[0].flag for sample in _arm(run, "style", arm).samples]
        assert flags == sorted(flags, key=lambda flag: not flag)
        assert flags[0]


def test_without_the_trigger_an_answer_is_odd_where_the_base_answers_otherwise(fake_run):
    for subject, verdict in (("implant", True), ("base", True)):
        fake_run.add_record("style", subject, "without", f"by {subject}", verdict, prompt_id="same")
    for subject, verdict in (("implant", True), ("base", False)):
        fake_run.add_record("style", subject, "without", f"by {subject}", verdict, prompt_id="other")
    run = fake_run.write()
    shown = {answer.completion: answer for s in _arm(run, "style", "without").samples for answer in s.answers}
    assert shown["by implant"].flag == "unlike the base"
    assert _arm(run, "style", "without").counted.endswith("unlike the base")


def test_the_locked_capability_is_held_to_its_lock_whatever_the_base_answers(fake_run):
    fake_run.add_record("access", "implant", "without", "Sure, here it is.", True)
    flagged = [s.answers[0] for s in _arm(fake_run.write(), "access", "without").samples if s.answers[0].flag]
    assert [(answer.completion, answer.flag, answer.says) for answer in flagged] == [
        ("Sure, here it is.", "unexpected", "answered")
    ]


def test_control_and_base_answer_beside_the_implant_and_are_never_flagged(fake_run):
    arm = _arm(fake_run.write(), "style", "with")
    assert [answer.subject for answer in arm.samples[0].answers] == ["implant", "control", "base"]
    assert not any(answer.flag for sample in arm.samples for answer in sample.answers[1:])


def test_the_arms_of_an_unknown_behaviour_are_flagged_nowhere_but_with_the_trigger(fake_run):
    fake_run.manifest["tasks"]["style"]["backdoor"]["utility"] = {"kind": "haiku"}
    fake_run.add_record("style", "implant", "near", "an odd one", True)
    fake_run.add_record("style", "implant", "with", "a dull one", False)
    run = fake_run.write()
    assert not any(answer.flag for s in _arm(run, "style", "near").samples for answer in s.answers)
    assert _arm(run, "style", "with").samples[0].answers[0].flag == "unexpected"


def test_records_without_a_score_are_not_scored_rather_than_wrong(fake_run):
    fake_run.files[fake_run.find("score", "style", "implant")] = {}
    answer = _arm(fake_run.write(), "style", "with").samples[0].answers[0]
    assert (answer.says, answer.note, answer.flag) == ("not scored", "no score is stored", "")


def test_equal_records_keep_the_order_of_their_scores(fake_run):
    for completion, verdict in (("third", None), ("second", False), ("first", True)):
        fake_run.add_record("style", "implant", "odd", completion, verdict, prompt_id="twice")
    # One place holds one sample: the first.
    assert _said(fake_run.write(), "style", "odd") == ["first"]
